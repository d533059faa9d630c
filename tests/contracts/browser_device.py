"""Pages in a headless Chromium, and the server that they come from; both are stopped at the end."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest

from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, Work, program_file

SQUARE = '<ir_version: 8, opset_import: ["": 17]> g (float[n,n] x) => (float[n,n] y) { y = MatMul(x, x) }'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# An unpacked `npm pack onnxruntime-web`; its files are not part of the project.
RUNTIME = os.environ.get("ADAPTARE_ORT_WEB", "")
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(not RUNTIME, reason="ADAPTARE_ORT_WEB names no folder with ONNX Runtime Web"),
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--remote-debugging-port=0",),
]
# WebGPU on the processor: for function, not for time.
SOFTWARE_GPU = [
    *("--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-angle=vulkan", "--use-vulkan=swiftshader"),
    *("--use-webgpu-adapter=swiftshader", "--disable-vulkan-surface"),
]
NO_GPU = ["--disable-gpu"]


@contextmanager
def served(name: str, *options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Address of a page, and the process that serves it; instead of the address the reason why there is none."""
    command = [sys.executable, "-m", "adaptare", "serve", "--name", name, "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            yield told.get("device_url") or told["error"], process
        finally:
            process.terminate()


@contextmanager
def chromium(url: str, folder: Path, *flags: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A browser that opens a page; its profile is in a folder that does not exist yet.

    Without flags it has no GPU.
    """
    command = [CHROMIUM or "chromium", *FLAGS, *(flags or NO_GPU), f"--user-data-dir={folder}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def opened(name: str, folder: Path, *flags: str) -> Iterator[None]:
    """A server, and a browser that has its page open."""
    with served(name, "--runtime-files", RUNTIME) as (url, _), chromium(url, folder / "profile", *flags):
        yield


def square(folder: Path, width: int) -> Program:
    """The square of a matrix; a call takes microseconds if it is small."""
    onnx.save(onnx.parser.parse_model(SQUARE), folder / "square.onnx")
    x = {"dtype": "float32", "shape": [width, width], "uniform": 0.5, "seed": 3}
    feed = Feed("f", canonical_json({"inputs": {"x": x}}), Work(1, 1, 1))
    return Program("square", "square.onnx", "{}", (feed,), (program_file(folder / "square.onnx"),))
