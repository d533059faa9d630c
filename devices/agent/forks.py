"""Forks of the agent: new memory for the programs of an opening, without the imports that a new process starts with."""

from __future__ import annotations

import _thread
import ctypes
import os
import select
import signal

# Option of Linux that sends a signal to a process whose parent has ended.
PARENT_ENDED = 1
# Exit code of a fork that was asked to end; no program is likely to exit with it.
ASKED_TO_END = 113


def continued_in_fork(replies: int) -> bool:
    """Forks. Returns True in the fork; and False in this process, once the fork has ended with `ASKED_TO_END`.

    After any other end of the fork, this process ends in the same way.

    Args:
        replies: File descriptor of the replies.
    """
    fork = os.fork()
    if not fork:
        ctypes.CDLL(None).prctl(PARENT_ENDED, signal.SIGKILL)
        end_unheard(replies)
        return True
    status = os.waitpid(fork, 0)[1]
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))
    if os.WEXITSTATUS(status) != ASKED_TO_END:
        os._exit(os.WEXITSTATUS(status))
    return False


def end_unheard(replies: int) -> None:
    """Ends this process as soon as nobody can read its replies any more, even during a call that never returns."""
    if not hasattr(select, "poll"):
        return
    lost = select.poll()
    lost.register(replies, 0)  # errors and the end are always reported

    def wait() -> None:
        lost.poll()
        os._exit(1)

    # A `Thread` would wait here for its beginning, for ever if memory is too scarce for it.
    _thread.start_new_thread(wait, ())
