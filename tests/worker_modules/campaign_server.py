"""Runs commands, each in a process of its own that has imported everything already."""

import json
import os
import sys

# Imported here so that nobody has to do it again.
from adaptare.app import app
from adaptare.profiler import open_model


def serve(model: str, cache: str) -> None:
    """Answers each line of words with the number of the process that runs them, and with its status at its end."""
    open_model(model, cache=cache)
    for line in sys.stdin:
        process_id = os.fork()
        if not process_id:
            said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            app(json.loads(line))  # ends the process
        print(process_id, flush=True)
        print(os.waitpid(process_id, 0)[1], flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
