"""Exit codes of the command line, which errors and results carry."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Answer of a command to the shell."""

    DONE = 0
    ANSWER_IS_NO = 1
    BAD_INPUT = 2
    WORLD_FAILED = 3
    AMBIGUOUS = 4
    INTERRUPTED = 130
    PIPE_CLOSED = 141
