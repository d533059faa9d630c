from contextlib import contextmanager
from timeit import default_timer, repeat

from adaptare.core import ProgramError, WorkerDiedError
from adaptare.devices import DeviceInfo, Loaded, WorkerInfo


class Abacus:  # each call adds as many numbers as a thousandth of its FLOPs
    capacity_bytes = staticmethod(lambda: 2**30)

    def info(self):
        return DeviceInfo("abacus", "wooden beads", "simulated 1", threads=1)

    @contextmanager
    def open(self):
        yield (worker := AbacusWorker())
        worker.clear()
        worker.error = WorkerDiedError


class AbacusWorker(dict):
    info = WorkerInfo(free_bytes=2**30, hardware="wooden beads", runtime="simulated 1")
    error = ProgramError

    def __missing__(self, program_id):
        raise self.error(f"no program {program_id!r} is loaded")

    def load(self, program):
        feeds = {feed.name: feed.work.flops // 1000 for feed in program.feeds if program.source == "simulated"}
        self[program_id := f"loaded at {default_timer()}"] = feeds
        first_s = {feed: self.run(program_id, feed, 1)[0] for feed in feeds}
        return Loaded(program_id, 0, sum(first_s.values()), {"beads": 1}, {}, dict.fromkeys(feeds, 0.0), first_s)

    def run(self, program_id, feed_id, calls):
        if feed_id not in self[program_id]:
            raise ProgramError(f"the program has no feed {feed_id!r}")
        return repeat(lambda: sum(range(self[program_id][feed_id])), number=1, repeat=calls)

    def unload(self, program_id):
        self.pop(program_id, None) or self.__missing__(program_id)
