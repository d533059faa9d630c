"""Report of a predictor interpolated between profiled lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptare.core import InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Section
from adaptare.core.units import milliseconds
from adaptare.predictor import FittedPredictor, bends, interpolate, load_predictor, save_predictor
from adaptare.workflows.fit.predictor_name import default_name, existing_predictor, predictor_stem


@dataclass(frozen=True)
class Interpolation:
    """Result of `write_interpolated`; `bends` are the errors of the base at held-out inner lengths."""

    predictor: FittedPredictor
    base: Path
    files: tuple[Path, ...]
    bends: dict[int, float]
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        for inner, error in self.bends.items():
            yield f"check: the base at length {inner}, interpolated from its neighbours, has an error of {error:+.1%}"
        length, base_s = self.predictor.template.length, self.predictor.reference_s
        yield f"base at length {length}: {milliseconds(base_s)} ms"
        yield f"written: {' and '.join(map(str, self.files))}; next: adaptare predict {self.base} ADAPTER"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        return {
            "predictor": str(self.base),
            "phase": self.predictor.template.phase,
            "length": self.predictor.template.length,
            "base_s": self.predictor.reference_s,
            "left_out": {str(inner): error for inner, error in self.bends.items()},
        }


def write_interpolated(predictors: Sequence[Path], length: int, *, output: Path | None, replace: bool) -> Interpolation:
    """Writes a predictor for a length between those of the given predictors.

    Args:
        output: Name of the files; default: see `default_name`.
        replace: True to overwrite any predictor of this name.

    Raises:
        InputError: They cannot be read, are not of one kind, or another predictor has this name.
    """
    known = [load_predictor(path) for path in predictors]
    predictor = interpolate(known, length)
    base = output or default_name(predictor, length=length, every_site=predictor.template.graph == "open")
    if predictor_stem(base) in {predictor_stem(path) for path in predictors}:
        raise InputError(f"{base} is one of the given predictors; name another file with --output")
    if not replace:
        existing_predictor(predictor, base)
    return Interpolation(predictor, base, save_predictor(predictor, base), bends(known))
