"""Form of the files that a device asks for: fixed shapes, products in two dimensions, the format for phones."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.core import ProgramError
from adaptare.core.content_hash import Json, content_hash
from adaptare.devices import DeviceInfo
from adaptare.profiler.models.disk_cache import UNFINISHED

# Main file of a format, and the identifier behind its first four bytes.
ORT, IDENTIFIER = ".ort", b"ORTM"
# Offsets in files of the format have 31 bits.
LARGEST_BYTES = 2**31
ARM = ("(aarch64)", "(arm64)", "(armv8l)", "(armv7l)")

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Form:
    """Form of the files of one device.

    Args:
        is_ort: The `ort` format, which has its weights in the file, instead of ONNX.
        shapes: `free`, `fixed`, or `flat`: fixed, and products of matrices in two dimensions.
        style: Optimisation of files of the `ort` format, as its converter names it: `Fixed` or `Runtime`.
        platform: Processors that files of the `ort` format are optimised for: `arm` or `amd64`.
    """

    is_ort: bool
    shapes: str
    style: str
    platform: str

    @classmethod
    def asked_by(cls, device: DeviceInfo) -> "Form":
        """The form that a device names among its options."""
        options = dict(option.split("=", 1) for option in device.options)
        return cls(
            options.get("format") == "ort",
            options.get("shapes", "free"),
            options.get("style", "fixed").capitalize(),
            "arm" if device.hardware.endswith(ARM) else "amd64",
        )

    @property
    def is_fixed(self) -> bool:
        """True if each workload needs a file of its own."""
        return self.shapes != "free"

    def file(self, graph: Path, shapes: Shapes) -> Path:
        """Path of a graph in this form; its own if nothing is to be changed."""
        if not self.is_ort and not self.is_fixed:
            return graph
        sizes: Json = {name: list(shape) for name, shape in shapes.items()}
        parts = [self.shapes, content_hash(sizes)] if self.is_fixed else []
        parts += [self.style, self.platform] if self.is_ort else []
        return graph.with_name("-".join([graph.stem, *parts]) + (ORT if self.is_ort else graph.suffix))

    def write(self, graph: Path, shapes: Shapes, file: Path) -> None:
        """Writes a graph in this form.

        Shapes are fixed first, because the `ort` format ignores sizes that are given when it is loaded.

        Args:
            graph: The graph, with free shapes; its weights stay in their file unless the format has them.
            shapes: Name of each input -> its shape.
            file: New file, anywhere.

        Raises:
            ProgramError: The converter failed.
        """
        import onnx

        from adaptare.profiler.programs.onnx.rows import fix_shapes, flatten_products

        with tempfile.TemporaryDirectory(dir=graph.parent, prefix=UNFINISHED) as place:
            source = graph
            if self.is_fixed:
                model = onnx.load(graph, load_external_data=False)
                fix_shapes(model, shapes)
                if self.shapes == "flat":
                    flatten_products(model)
                # Beside the weights, to which it refers.
                source = graph.with_name(f"{Path(place).name}.onnx") if self.is_ort else file
                onnx.save(model, source)
            try:
                if self.is_ort:
                    self._convert(source, Path(place)).replace(file)
            finally:
                if source not in (graph, file):
                    source.unlink(missing_ok=True)

    def _convert(self, source: Path, place: Path) -> Path:
        """Converts a graph by onnxruntime's own tool, in a process of its own. Returns the new file."""
        module = "onnxruntime.tools.convert_onnx_models_to_ort"
        options = ["--output_dir", str(place), "--optimization_style", self.style, "--target_platform", self.platform]
        command = [sys.executable, "-m", module, *options, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        made = sorted(place.glob(f"*{ORT}"))
        if done.returncode or not made:
            words = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise ProgramError(f"{source.name} cannot be converted to the ort format: {words}")
        return made[0]


def is_ort_file(file: Path) -> bool:
    """True if a file exists and has the `ort` format."""
    try:
        with file.open("rb") as content:
            return content.read(8)[4:] == IDENTIFIER
    except OSError:
        return False
