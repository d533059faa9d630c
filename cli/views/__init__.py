"""Views of results: tables, sentences, notes and charts of each job, and its exit code where the answer can be no."""

import shlex


def command_line(*words: object) -> str:
    """A command of adaptare to run next, as a shell takes it."""
    return shlex.join(["adaptare", *map(str, words)])
