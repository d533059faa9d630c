"""Host side of the agent: a `Worker` that exchanges JSON lines with a local or remote process."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from adaptare.core import AdaptareError, DeviceError, InputError, MissingPackageError, ProgramError, WorkerDiedError
from adaptare.core.codec import from_json
from adaptare.devices.contracts import USUAL_CACHE_BYTES, AttributedCall, Loaded, OperatorTime, WorkerInfo
from adaptare.devices.machine_facts import ENERGY, EVERYTHING, MachineFacts
from adaptare.devices.program import Program
from adaptare.devices.replies import advised, parsed_reply
from adaptare.devices.transport import Link

Check = Callable[[Program, Loaded], None]
# Threads busy-wait for some 40 ms after a call, and would take processors from the next program.
GAP_S = 0.05
# Minimum memory for an agent to be able to reply.
LEAST_BYTES = 64 * 2**20
# A request longer than the pipe's buffer blocks until the agent reads it.
HELD_BY_A_PIPE = 4096
DRAINED_S = 1.0
# Facts about a loaded program that a reply has as they are.
COPIED = ("outputs", "resident_bytes", "load_s", "providers", "bind_s", "first_call_s", "peak_bytes")
# Of one reply; a longer one is cut, and is then none.
MOST_CHARACTERS = 64 * 2**20
KEPT_STDERR_LINES = 50
KEPT_LINE_CHARACTERS = 500


class AgentWorker:
    """One agent process behind a pipe.

    Args:
        timeout_s: Limit for the agent to read a request, and then to answer it; after that it counts as hung and is
            killed.
        check: Called with each loaded program; if it raises, the program is unloaded.
    """

    def __init__(self, link: Link, *, timeout_s: float, check: Check | None = None) -> None:
        self._check = check
        self._link = link
        self._timeout_s = timeout_s
        self._sequence = 0
        self._loaded = 0
        self._last_program = ""
        self._has_accelerator = self._in_fork = False
        self.info = WorkerInfo(free_bytes=0)
        try:
            self._process = subprocess.Popen(
                list(link.command),
                env=dict(link.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C is handled by the caller; the agent finishes its call
            )
        except OSError as error:
            raise DeviceError(f"the worker could not be started with {link.command[0]!r}: {error}") from error
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=KEPT_STDERR_LINES)
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._streams = [stream for stream in streams if stream is not None]
        self._drains = [
            threading.Thread(target=drain, args=(stream,), daemon=True)
            for drain, stream in zip((self._drain_replies, self._drain_stderr), self._streams[1:], strict=True)
        ]
        for drain in self._drains:
            drain.start()

    def _drain_replies(self, lines: IO[str]) -> None:
        while line := lines.readline(MOST_CHARACTERS):
            self._replies.put(line)
        self._replies.put("")

    def _drain_stderr(self, lines: IO[str]) -> None:
        self._stderr.extend(line.rstrip()[:KEPT_LINE_CHARACTERS] for line in lines)

    @property
    def process_id(self) -> int:
        """ID of the process at this end of the pipe: the agent itself if local."""
        return self._process.pid

    def hello(
        self,
        *,
        threads: int,
        pin: bool,
        cores: str,
        gap_s: float | None,
        options: Mapping[str, object],
        memory_bytes: int,
    ) -> None:
        """Configures the agent by the facts about its device; 0 threads or bytes: the device decides.

        Raises:
            InputError: The device does not support these options, or lacks a package.
            DeviceError: It does not answer, or it is not there.
        """
        try:
            machine = self._machine(EVERYTHING)
            machine = machine.masked(cores) if cores else machine
            threads = _checked_threads(threads, machine)
            machine = machine.on(machine.pinned(threads)) if pin else machine
            facts = self._request(
                "hello",
                threads=threads,
                processors=machine.processors if cores or pin else [],
                options=dict(options),
                memory_bytes=memory_bytes,
                free_bytes=max(machine.free_bytes, LEAST_BYTES),
            )
            with self._understood("hello"):
                self.info = self._info(facts, machine, gap_s, memory_bytes)
        except ProgramError as error:
            raise DeviceError(f"the worker could not be set up: {error}") from error

    def _info(
        self, facts: Mapping[str, Any], machine: MachineFacts, gap_s: float | None, memory_bytes: int
    ) -> WorkerInfo:
        """Facts about the device, from its reply to `hello`."""
        accelerator = facts.get("accelerator", "")
        self._has_accelerator = bool(accelerator)
        machine = self._machine(EVERYTHING) if accelerator else machine  # with its state
        free_bytes = facts.get("free_bytes", machine.free_bytes)
        busy_wait_s = GAP_S if facts["threads"] > 1 and not accelerator else 0.0
        metered = ["energy"] * (machine.energy_j is not None and not accelerator)
        return WorkerInfo(
            free_bytes=min(free_bytes, memory_bytes or max(free_bytes, LEAST_BYTES)),
            processors=machine.processors,
            timer_step_s=float(facts["timer_step_s"]),
            hardware=f"{accelerator} beside {machine.hardware}" if accelerator else machine.hardware,
            runtime=facts["runtime"],
            threads=int(facts["threads"]),
            cache_bytes=facts.get("cache_bytes", machine.cache_bytes) or USUAL_CACHE_BYTES,
            providers=tuple(facts["providers"]),
            capabilities=tuple(sorted([*facts["capabilities"], *metered, "environment"])),
            environment=machine.environment(),
            gap_s=busy_wait_s if gap_s is None else gap_s,
        )

    def _machine(self, asked: Mapping[str, Any]) -> MachineFacts:
        reply = self._request("machine", **asked)
        with self._understood("machine"):
            return MachineFacts(reply["machine"]).checked()

    def load(self, program: Program) -> Loaded:
        self._loaded += 1
        program_id = f"{program.hash}-{self._loaded}"
        self._bring(program)
        copies, between_bytes = self._traffic(program)
        reply = self._request(
            "load",
            # Loading calls each feed once.
            times=max(1, len(program.feeds)),
            program_id=program_id,
            source=program.source,
            arguments=json.loads(program.arguments),
            files={file.name: file.digest for file in program.files},
            copies=copies,
            between_bytes=between_bytes,
            feeds=[{"name": feed.name, "arguments": json.loads(feed.arguments)} for feed in program.feeds],
        )
        with self._understood("load"):
            known = {name: reply[name] for name in COPIED} | {"host_share": reply.get("host_share", {})}
            loaded = from_json(Loaded, {"program_id": program_id, "copies": copies, **known}, where="reply")
        try:
            if self._check:
                self._check(program, loaded)
        except AdaptareError:
            self.unload(program_id)
            raise
        return loaded

    def _traffic(self, program: Program) -> tuple[int, int]:
        """Copies that are called in turn, and bytes of other memory that are used before each call.

        An accelerator has one copy; other memory takes the place of the rest of the model there too.
        """
        cache_bytes, between_bytes, copies = self.info.cache_bytes, program.between_bytes, 1
        if self._has_accelerator:
            between_bytes += program.others_bytes
        else:
            copies = Program.copies_in_turn(program.moved_bytes, program.others_bytes, cache_bytes)
        return copies, min(between_bytes, max(0, 2 * cache_bytes - program.moved_bytes))

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        """Times calls; after another program, first waits until the threads of that are idle."""
        if program_id != self._last_program and self.info.gap_s:
            time.sleep(self.info.gap_s)
        self._last_program = program_id
        reply = self._request("run", program_id=program_id, feed_id=feed_id, calls=calls)
        with self._understood("run"):
            seconds, count = list(map(float, reply["seconds"])), int(reply["count"])
        if not len(seconds) == count == calls:
            self._kill()
            raise WorkerDiedError(f"asked for {calls} calls, the worker answered {len(seconds)} times")
        return seconds

    def unload(self, program_id: str) -> None:
        self._request("unload", program_id=program_id)

    def environment(self) -> Mapping[str, Any]:
        return self._machine(EVERYTHING).environment()

    def forget(self, program: Program) -> bool:
        self._bring(program)
        return self._request("forget", digests=[file.digest for file in program.files]).get("forgotten") is True

    def fork(self, program: Program) -> bool:
        if self._in_fork:
            self._request("close")
            self._in_fork = False
        elif self._loaded or "fork" not in self.info.capabilities:
            return False
        self._request("fork", source=program.source)
        self._in_fork = True
        return True

    def energy_j(self) -> float | None:
        # The counters of processors do not include accelerators.
        return None if self._has_accelerator else self._machine(ENERGY).energy_j

    def attribute(self, program: Program, feed_id: str, calls: int) -> Sequence[AttributedCall]:
        feeds = {feed.name: feed.arguments for feed in program.feeds}
        if feed_id not in feeds:
            raise ProgramError(f"the program has no feed {feed_id!r}; it has {sorted(feeds)}")
        self._loaded += 1
        self._bring(program)
        reply = self._request(
            "attribute",
            source=program.source,
            arguments=json.loads(program.arguments),
            files={file.name: file.digest for file in program.files},
            feed=json.loads(feeds[feed_id]),
            calls=calls,
        )
        with self._understood("attribute"):
            seconds, count = list(map(float, reply["seconds"])), int(reply["count"])
            operators = [
                tuple(OperatorTime(name, *totals) for name, totals in sorted(call.items()))
                for call in reply["operators"]
            ]
        if not len(seconds) == len(operators) == count == calls:
            self._kill()
            raise WorkerDiedError(f"asked for {calls} calls, {len(seconds)} were timed and {len(operators)} attributed")
        return list(map(AttributedCall, seconds, operators))

    def _bring(self, program: Program) -> None:
        """Transfers files that the device lacks. Raises `ProgramError` if one cannot be transferred."""
        files = {file.digest: file for file in program.files}
        if not files:
            return
        reply = self._request("missing", digests=list(files))
        with self._understood("missing"):
            missing = [files[digest] for digest in reply["missing"]]
        for file in missing:
            try:
                self._link.bring(file)
            except OSError as error:
                raise ProgramError(f"{file.name} could not be brought to the device: {error}") from error
            except DeviceError as error:
                self._kill()
                raise WorkerDiedError(f"{file.name} could not be brought to the device: {error}") from error

    def close(self) -> None:
        """Ends the agent by an explicit message, or by force if it does not answer."""
        if self._process.poll() is None:
            with contextlib.suppress(AdaptareError):
                for _ in range(1 + self._in_fork):
                    self._request("close")
        self._kill()

    def _request(self, operation: str, *, times: int = 1, **content: Any) -> dict[str, Any]:
        self._sequence += 1
        timeout_s = times * self._timeout_s
        late = threading.Event()
        text = ""
        try:
            self._send(json.dumps({"seq": self._sequence, "op": operation, **content}) + "\n", timeout_s, late)
            text = self._replies.get(timeout=min(timeout_s, threading.TIMEOUT_MAX))
        except queue.Empty:
            late.set()
        except (OSError, ValueError):  # the pipe is closed
            pass
        except KeyboardInterrupt:  # the call may go on for long
            self._kill()
            raise
        if late.is_set():
            self._kill()
            raise WorkerDiedError(
                f"no answer to {operation!r} within {timeout_s:g} s; the worker was stopped "
                "(the option timeout_s of a device waits longer)"
            )
        if not text.endswith("\n"):
            raise self._death(operation)
        reply = parsed_reply(text)
        if reply.get("seq") != self._sequence or not isinstance(reply.get("ok"), bool):
            self._kill()
            came = text.strip()[:KEPT_LINE_CHARACTERS]
            raise WorkerDiedError(f"reply {came!r} came for request {self._sequence}; the link is broken")
        if not reply["ok"]:
            raise self._refusal(reply)
        return reply

    @contextlib.contextmanager
    def _understood(self, operation: str) -> Iterator[None]:
        """Ends a worker whose reply is not of the expected form. Raises `WorkerDiedError`."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError) as error:
            self._kill()
            raise WorkerDiedError(
                f"the reply to {operation!r} is malformed ({type(error).__name__}: {error}); the worker was stopped"
            ) from error

    def _send(self, line: str, timeout_s: float, late: threading.Event) -> None:
        """Writes a request, with a timeout: one larger than the pipe's buffer blocks until the agent reads it."""

        def give_up() -> None:
            late.set()
            self._end()

        timer = threading.Timer(min(timeout_s, threading.TIMEOUT_MAX), give_up)
        if len(line) > HELD_BY_A_PIPE:
            timer.start()
        try:
            self._streams[0].write(line)
            self._streams[0].flush()
        finally:
            timer.cancel()

    def _death(self, operation: str) -> WorkerDiedError:
        self._kill()
        cause = self._link.cause(self._process.returncode)
        last = " | ".join(list(self._stderr)[-3:]) or "none"
        return WorkerDiedError(f"the worker ended during {operation!r} with {cause}; its last output: {last}")

    def _refusal(self, reply: Mapping[str, Any]) -> Exception:
        """Error that corresponds to a reply."""
        text = str(reply.get("error"))
        if reply.get("cause") == "option":
            return InputError(text)
        if reply.get("cause") == "device":
            return DeviceError(text)
        if reply.get("cause") == "package" and (advice := self._link.install(str(reply.get("package")))):
            return MissingPackageError(f"{text}; {advice}")
        return ProgramError(advised(text))

    def _kill(self) -> None:
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            self._end()
            self._process.wait()
        if self._held():  # by a child process of a program
            self._end()
        held = self._held()
        for stream in self._streams:
            with contextlib.suppress(OSError):
                if stream not in held:
                    stream.close()

    def _end(self) -> None:
        """Kills the agent and its child processes, which form a session where the system supports it."""
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _held(self) -> list[IO[str]]:
        """Streams that another process has open for writing; they cannot be closed while they are read."""
        for drain in self._drains:
            drain.join(timeout=DRAINED_S)
        return [stream for drain, stream in zip(self._drains, self._streams[1:], strict=True) if drain.is_alive()]


def _checked_threads(threads: int, machine: MachineFacts) -> int:
    """Threads to use, by default one per core; the number asked for, of a device that does not name its processors."""
    available = len(machine.processors)
    chosen = threads or machine.physical_cores
    if available and not 1 <= chosen <= available:
        raise InputError(f"threads must be 1 to {available} here, not {threads}")
    return chosen
