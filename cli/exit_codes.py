from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of a command."""

    DONE = 0
    ANSWER_IS_NO = 1
    BAD_INPUT = 2
    WORLD_FAILED = 3
    AMBIGUOUS = 4
    INTERRUPTED = 130
    PIPE_CLOSED = 141
