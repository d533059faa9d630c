"""Console output: one JSON object or tables on stdout; progress and notes on stderr."""

import contextlib
import functools
import inspect
import itertools
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TextIO, TypeVar

import typer

from adaptare.arguments import JsonOption
from adaptare.core import AdaptareError, InputError, NoSolutionError
from adaptare.core.lazy_names import missing_package
from adaptare.exit_codes import ExitCode
from adaptare.tables import drawn, print_table

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from adaptare.core.progress import Feedback
    from adaptare.core.table import AnyTable, Section

PLAIN_INTERVAL_S: Final = 5.0
# Options of which some commands take several.
SEVERAL: Final = {"--budget", "--device"}

P = ParamSpec("P")
Result = TypeVar("Result")
Made = TypeVar("Made")
# Words after the name of the program, arguments of the running command by name, and its console.
WORDS: ContextVar[Sequence[str]] = ContextVar("words", default=())
_ARGUMENTS: ContextVar[Mapping[str, Any]] = ContextVar("arguments")
_CONSOLE: ContextVar["Console"] = ContextVar("console")


def command(function: Callable[P, int]) -> Callable[P, None]:
    """Turns the return value of a command into its exit code, and an exception into a message and an exit code.

    The command gets the option `--json`, which its `console` knows.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        _CONSOLE.set(Console(as_json=bool(kwargs.pop("as_json", False))))
        _ARGUMENTS.set(kwargs)
        try:
            _check_given(function, kwargs)
            if code := function(*args, **kwargs):
                raise typer.Exit(code)
        except KeyboardInterrupt as error:
            refuse("interrupted; stored results are kept, and profile, train, search, tune and demo go on from them")
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except AdaptareError as error:
            refuse(f"{error}{_option(function, error)}")
            raise typer.Exit(_code(error)) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError | OutputError):
                raise typer.Exit(output_lost(error)) from error
            place = f" ({error.filename})" if error.filename else ""
            refuse(f"the system refused: {error.strerror or error}{place}; free some space or choose another folder")
            raise typer.Exit(ExitCode.BAD_INPUT) from error
        except typer.Exit:
            raise
        except Exception as error:
            if advice := missing_package(error):
                refuse(advice)
                raise typer.Exit(ExitCode.BAD_INPUT) from error
            traceback.print_exc()
            refuse(f"unexpected {type(error).__name__}: {error}; this is a fault of adaptare, please report it")
            raise typer.Exit(ExitCode.WORLD_FAILED) from error

    signature = inspect.signature(function)
    as_json = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption)
    parameters = [*signature.parameters.values(), as_json]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {**function.__annotations__, "as_json": JsonOption}
    return run


def console() -> "Console":
    """Output of the running command."""
    return _CONSOLE.get()


def _check_given(function: Callable[..., object], arguments: Mapping[str, Any]) -> None:
    """Raises `InputError` for an empty text, which would count as not given, and for a second budget or device.

    Where a command takes one of them and others take several, the last would count. Of other options the last does, so
    that a script can override what it begins with. An empty path would be the present folder.
    """
    parameters, words, named = inspect.signature(function).parameters, WORDS.get(), option_names(function)
    # Options that take the word after them, and whether an argument was empty.
    taking = {option for name, own in named.items() if not isinstance(arguments.get(name), bool) for option in own}
    bare = any(word == "" and before not in taking for before, word in itertools.pairwise(["", *words]))
    for name, options in named.items():
        value, notes = arguments.get(name), getattr(parameters[name].annotation, "__metadata__", ())
        shown = "/".join(options) or next((note.metavar for note in notes if note.metavar), name)
        texts = _texts(options, words)
        values = value if isinstance(value, list) else [value]
        empty = "" in texts if options else bare and any(each in ("", Path()) for each in values)
        if empty and parameters[name].default != "":
            raise InputError(f"{shown} is empty (''); give a value, or leave it out")
        if len(texts) > 1 and SEVERAL.intersection(options) and not isinstance(value, list):
            raise InputError(f"{shown} came {len(texts)} times, and this command takes one")


def _texts(options: Sequence[str], words: Sequence[str]) -> Sequence[str | None]:
    """Values of an option on the command line as typed, such as the text in `--output=text` and `--output text`."""
    found: list[str | None] = []
    for word, following in itertools.pairwise([*words, None]):
        option, equals, text = str(word).partition("=")
        if option in options:
            found.append(text if equals else following)
    return found


def requested(make: Callable[..., Made], **values: object) -> Made:
    """Calls with these values, and for all other parameters with the arguments of the running command of the same name.

    An argument that was not given, and is `None`, leaves the default of its parameter.

    Args:
        make: Class of a request, or another callable.
    """
    arguments = {**_ARGUMENTS.get(), **values}
    taken = [each for name, each in inspect.signature(make).parameters.items() if name in arguments]
    left = {each.name for each in taken if arguments[each.name] is None and each.default is not each.empty}
    return make(**{each.name: arguments[each.name] for each in taken if each.name not in left})


def _code(error: AdaptareError) -> ExitCode:
    """Exit code of an error."""
    if isinstance(error, NoSolutionError):
        return ExitCode.ANSWER_IS_NO
    return ExitCode.BAD_INPUT if isinstance(error, InputError) else ExitCode.WORLD_FAILED


def option_names(function: Callable[..., object]) -> dict[str, list[str]]:
    """Parameter of a command -> its options, such as `-p` and `--prefill`; none for arguments."""
    found: dict[str, list[str]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        notes: Sequence[Any] = getattr(parameter.annotation, "__metadata__", ())
        # Typer takes the first name of an annotated option for a default.
        words = [word for note in notes for word in (note.default, *(note.param_decls or ()))]
        found[name] = [word for word in words if str(word).startswith("-")]
    return found


def _option(function: Callable[..., object], error: AdaptareError) -> str:
    """Option of a command for the parameter that an error names; empty if there is none."""
    names = option_names(function).get(getattr(error, "parameter", ""))
    return f" (option {'/'.join(names)})" if names else ""


class OutputError(OSError):
    """Stdout cannot be written; distinguishes it from errors of files that a command writes."""


class WatchedOutput:
    """Wrapper of stdout that raises its errors as `OutputError`.

    Args:
        stream: The wrapped stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes to the stream."""
        with _as_output_error():
            return self._stream.write(text)

    def flush(self) -> None:
        """Flushes the stream."""
        with _as_output_error():
            self._stream.flush()


@contextlib.contextmanager
def _as_output_error() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def output_lost(error: OSError) -> int:
    """Detaches stdout, so that the interpreter does not flush it at exit. Returns the exit code.

    A closed pipe ends the program silently, as with other shell programs.
    """
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return ExitCode.PIPE_CLOSED
    with contextlib.suppress(OSError):
        typer.echo(f"error: the output cannot be written: {error.strerror or error}", err=True)
    return ExitCode.WORLD_FAILED


def refuse(message: str) -> None:
    """Reports why there is no result: on stderr, and as the JSON object if requested."""
    typer.echo(f"error: {message}", err=True)
    if "--json" in WORDS.get():
        typer.echo(json.dumps({"error": message}))


class Console:
    """Output of a command's results.

    Args:
        as_json: One JSON object on stdout instead of tables.
        name: Begins every line on stderr, and replaces bars by lines: several report at once.
    """

    def __init__(self, *, as_json: bool, name: str = "") -> None:
        self.as_json = as_json
        self._name = name
        self._above: list[AnyTable] = []
        self._bar_console: RichConsole | None = None  # while a bar is drawn

    @property
    def feedback(self) -> "Feedback":
        """Callbacks through which the library reports on a long task."""
        from adaptare.core.progress import Feedback

        return Feedback(note=self.note, progress=self.progress, show=self.section)

    def feedback_with(self, sections: "Callable[[Any], Iterable[Section]]") -> "Feedback":
        """The same with sections of the results so far, and of parts of the result that are complete."""
        return replace(
            self.feedback,
            preview=lambda result: self.preview(sections(result)),
            show=lambda result: self.sections(sections(result)),
        )

    def note(self, text: str) -> None:
        """Prints a line on stderr, above the bar if there is one."""
        line = f"{self._name}: {text}" if self._name else text
        if self._bar_console:
            self._bar_console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(line, err=True)

    def section(self, section: "Section") -> None:
        """Prints a table or line of the result, omitted if the result is JSON, or a note."""
        from adaptare.core.table import Note

        if isinstance(section, Note):
            self.note(section.text)
        elif self.as_json:
            return
        elif isinstance(section, str):
            typer.echo(section)
        elif left_out := print_table(section):
            self.note(f"a wider terminal also shows: {', '.join(left_out)}")

    def sections(self, sections: "Iterable[Section]") -> None:
        """Prints several sections."""
        for section in sections:
            self.section(section)

    def show(
        self,
        result: "Result",
        sections: "Callable[[Result], Iterable[Section]]",
        exit_code: Callable[[Result], int] | None = None,
    ) -> int:
        """Prints the sections of a result, or one JSON object if requested. Returns the exit code, by default 0."""
        from adaptare.core.codec import to_json

        self.sections(sections(result))
        if self.as_json:
            typer.echo(json.dumps(_finite(to_json(result)), indent=1))
        return exit_code(result) if exit_code else ExitCode.DONE

    def preview(self, sections: "Iterable[Section]") -> None:
        """Shows tables above the bar of `progress` until the next preview or the end of the bar, if there is a bar."""
        from adaptare.core.table import Table

        self._above = [section for section in sections if isinstance(section, Table)]

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[float, str], None]]:
        """Yields `update(share, text)`: a bar on a terminal, else a plain line every few seconds."""
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not self._name:
            yield from self._bar(title)
        else:
            yield from self._lines(title)

    def _bar(self, title: str) -> Iterator[Callable[[float, str], None]]:
        from rich.console import Console as RichConsole
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn(title), BarColumn(), TextColumn("{task.description}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        console = RichConsole(stderr=True)
        bar = Progress(*columns, *times, console=console)
        task = bar.add_task("", total=1.0)
        self._above = []

        def shown() -> Group:
            return Group(*(part for table in self._above for part in drawn(table, console.width)), bar)

        with Live(get_renderable=shown, console=console, transient=True):

            def update(share: float, text: str) -> None:
                bar.update(task, completed=share, description=text)

            self._bar_console = console
            try:
                yield update
            finally:
                self._bar_console = None

    def _lines(self, title: str) -> Iterator[Callable[[float, str], None]]:
        from adaptare.core.progress import time_left

        last_s, started_s = -math.inf, time.monotonic()

        def update(share: float, text: str) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if share >= 1 or now_s - last_s >= PLAIN_INTERVAL_S:
                last_s = now_s
                left = time_left(now_s - started_s, share)
                self.note(f"{title}: {share:4.0%} {text}{f', {left}' * bool(left)}")

        yield update


def feedback_of(name: str) -> "Feedback":
    """Callbacks through which one of several devices reports."""
    return Console(as_json=True, name=name).feedback


def _finite(value: Any) -> Any:
    """Value with infinities and NaNs, which JSON lacks, replaced by null."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
