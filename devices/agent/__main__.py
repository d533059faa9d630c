"""Starts the agent: `MODULE:RUNTIME FOLDER [ROOT]`, where ROOT contains the system's `proc` and `sys`."""

from __future__ import annotations

import importlib
import os
import sys

from adaptare.devices.agent.files import Files
from adaptare.devices.agent.forks import end_unheard
from adaptare.devices.agent.server import Agent, refuse, serve


def main(runtime: str, folder: str, root: str = "/") -> None:
    """Serves on the standard streams; output of libraries goes to stderr, separate from the protocol."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    end_unheard(replies.fileno())
    module, _, name = runtime.partition(":")
    try:
        chosen = getattr(importlib.import_module(module), name)()
    except ImportError as error:  # of numpy, which a runtime's module imports
        refuse(error, sys.stdin, replies)
        return
    serve(Agent(chosen, Files(folder), root), sys.stdin, replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
