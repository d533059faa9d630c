"""Outputs that would replace something else, words that come twice or are empty, and commands that are printed."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def refused(answer: Any, *words: str) -> None:
    assert answer.code == 2, answer
    assert all(word in answer.err for word in words), answer.err
    assert "Traceback" not in answer.err


@pytest.fixture
def folder(run_in_copy: Callable[[Path], Run], results: Path) -> Run:
    """A folder with a training, a predictor, a store and a front."""
    return run_in_copy(results)


@pytest.fixture
def predictor(results: Path) -> str:
    return next(file.stem for file in results.glob("*.npz"))


def test_an_adapter_is_not_written_over_itself(run: Run, model_cache: Path, saved: Callable[..., Path]) -> None:
    saved()
    words = ("--base", "tiny-random", "--cache", model_cache)
    assert run("export", "adapter", *words, "--to", "peft-uniform", "-o", "exported").code == 0
    before = Path("exported/adapter_model.safetensors").read_bytes()
    refused(
        run("export", "exported", *words, "--to", "peft-uniform", "-o", "./exported/"), "is the adapter that is read"
    )
    assert Path("exported/adapter_model.safetensors").read_bytes() == before


def test_a_data_set_replaces_no_file_of_others(folder: Run) -> None:
    Path("project").mkdir()
    Path("project/README.md").write_text("mine")
    Path("project/costs.json").write_text('{"mine": 1}')
    words = ("dataset", "export", "adaptare.db", "-o")
    refused(folder(*words, "project"), "'project' holds files of another program")
    for table, message in (
        ("project/costs.json", "is no earlier table of costs"),
        ("none/costs.json", "no folder 'none'"),
    ):
        refused(folder(*words, "set", "--cost-table", table), message)
    assert not Path("set").exists()
    assert Path("project/README.md").read_text() == "mine"
    for _ in range(2):
        answer = folder(*words, "set")
        assert answer.code == 0, answer.err


def test_only_regular_files_are_replaced(folder: Run, tmp_path: Path) -> None:
    (tmp_path / "pipe.html").mkdir()
    answer = folder("report", "adaptare.db", "-o", "pipe.html")
    assert answer.code in (2, 3)
    assert "it is no regular file, so it is not replaced" in answer.err
    Path("figures").write_text("mine")
    refused(folder("report", "adaptare.db", "-o", "page.html", "--png", "figures"), "'figures' is a file")
    assert not Path("page.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("predict", "x", "--budget=decode=9ms", "--budget", "decode=8ms"),
            "--budget came 2 times, and this command takes one",
        ),
        (("profile", "tiny-random", "--device", "simulated", "--device", "torch-cpu"), "--device came 2 times"),
        (("overhead", "tiny-random", "--device", "torch-cpu:threads=1,threads=2"), "threads came twice; give it once"),
        (("train", "tiny-random", "-o", ""), "--output/-o is empty ('')"),
        (("train", "tiny-random", "-o", "run", "--data="), "--data is empty ('')"),
        (("predict", "", "--rank", "4"), "PREDICTOR is empty ('')"),
        (("check", "x", "--runtime", "vllm", "--base", "tiny-random", "--file", "y"), "adapter_config.json"),
    ],
)
def test_words_that_come_twice_or_are_empty(run: Run, words: tuple[str, ...], message: str) -> None:
    refused(run(*words), message)
    assert not list(Path().iterdir())


def test_a_runtime_that_loads_no_files_takes_none(run: Run, model_cache: Path, saved: Callable[..., Path]) -> None:
    saved()
    words = ("check", "adapter", "--base", "tiny-random", "--cache", model_cache, "--runtime", "vllm")
    refused(run(*words, "--file", "nosuch"), "vllm is checked by its rule and loads no files; leave 'nosuch' out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,*.q_proj\nx,4,5\n", "line 2: a row has 2 cells"),
        ("name,*.q_proj\nx\n", "line 2: a row has 2 cells"),
        ("name,*.q_proj,*.q_proj\nx,4,8\n", "two columns of one name"),
    ],
)
def test_rows_of_a_table_of_ranks_are_complete(folder: Run, predictor: str, text: str, message: str) -> None:
    Path("ranks.csv").write_text(text)
    refused(folder("predict", predictor, "ranks.csv"), message)


def test_a_search_replaces_nothing_but_its_earlier_result_and_its_commands_can_be_pasted(
    folder: Run, data: Path, model_cache: Path
) -> None:
    for suffix in (".json", ".npz"):
        Path(f"predictor{suffix}").rename(f"my predictor{suffix}")
    answer = folder("predict", "my predictor", "--rank", "4", "--budget", "overhead=900%")
    assert answer.code == 0, answer.err
    following = shlex.split(" ".join(answer.err.split("then ")[-1].split()))
    assert following == ["adaptare", "search", "FOLDER", "--predictor", "my predictor", "--budget", "overhead=900%"]
    words = ("--steps", 2, "--data", data, "--cache", model_cache, "--held-out", 8)
    assert folder("train", "tiny-random", "-o", "my run", *words).code == 0
    search = ("search", "my run", *following[3:], "--evaluations", 1, "-o")
    for _ in range(2):
        found = folder(*search, "a front.json")
        assert found.code == 0, found.err
    assert "adaptare verify 'a front.json'" in " ".join(found.out.split())
    for other in ("one.json", "my run/super_adapter.safetensors", "my predictor.json", "adaptare.db"):
        before = Path(other).read_bytes()
        refused(folder(*search, other), f"{other!r} exists and is no earlier result of a search")
        assert Path(other).read_bytes() == before
