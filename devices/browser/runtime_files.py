"""Files of ONNX Runtime Web: from a folder, or from a public host in a pinned version, checked by hash."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adaptare.core import InputError

VERSION = "1.30.0"
PUBLIC = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
# Of the package on npm, as used by the page: entry point, glue and binary of each backend.
HASHES: Mapping[str, str] = {
    "ort.wasm.min.mjs": "sha384-SfFfy/pvthiOsgaw3KX0bV5TfQ6Iq+oY9KutMe4SxIuHH4cl+DCSD4rTsYOoG1tJ",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
    "ort.webgpu.min.mjs": "sha384-FPQBMbud8ICuP0Ii+Gr95KWEX9pKHtUC3lacIp0aPI8WYluKvTsEGQ3AE2Ze3QlL",
    "ort-wasm-simd-threaded.asyncify.mjs": "sha384-qViEcCGzsR/m8nlQwIsbYh7afN4thuraqFYDQY6huvmoLVoZq/eYawQ1wrv8nnhA",
    "ort-wasm-simd-threaded.asyncify.wasm": "sha384-EPVDLTxuO663dkZO/pcKJF6vOyyfq/5z9FY1oksN0UWFX2ABH4wDDZQHeNoUleWR",
}


@dataclass(frozen=True)
class RuntimeFiles:
    """Origin of the library.

    Args:
        folder: URL of its files, relative to that of the page.
        files: Name -> local file to serve; empty if the page loads them from elsewhere.
        integrity: Name -> hash that the browser checks; empty for local files.
    """

    folder: str
    files: Mapping[str, Path] = field(default_factory=dict)
    integrity: Mapping[str, str] = field(default_factory=dict)


PUBLIC_FILES = RuntimeFiles(PUBLIC, integrity=HASHES)


def local_files(folder: Path) -> RuntimeFiles:
    """Files of an unpacked `npm pack onnxruntime-web`, or of its `dist` folder, in any version with these names.

    Raises:
        InputError: The folder lacks one.
    """
    places = (folder, folder / "dist", folder / "package" / "dist")
    place = next((place for place in places if all((place / name).is_file() for name in HASHES)), None)
    if place is None:
        raise InputError(
            f"{str(folder)!r} has no files {', '.join(HASHES)}; unpack there: npm pack onnxruntime-web@{VERSION}"
        )
    return RuntimeFiles("runtime/", files={name: place / name for name in HASHES})
