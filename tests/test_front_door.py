"""What `import adaptare` offers: few names, nothing heavy imported, and one call for the main job."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import adaptare
from adaptare.core import InputError
from adaptare.core.table import Column, Table

MOST_NAMES = 25
ONE_CALL = {"device": "simulated", "prompts": [], "depths": [4], "seconds": 600.0, "openings": 2}


def test_every_public_name_is_there_and_they_are_few() -> None:
    assert all(getattr(adaptare, name) is not None for name in adaptare.__all__)
    assert len(adaptare.__all__) <= 18
    with pytest.raises(AttributeError, match="no attribute 'latency'"):
        adaptare.latency  # type: ignore[attr-defined]  # noqa: B018


DOORS = [
    *(f"profiler.{door}" for door in ("analysis", "measuring", "models", "store", "workloads")),
    *(f"search.{door}" for door in ("export", "recipes", "super_adapter", "training")),
]


@pytest.mark.parametrize("package", ["devices", "profiler", "predictor", "search", "testing", *DOORS])
def test_a_package_has_few_public_names(package: str) -> None:
    module = importlib.import_module(f"adaptare.{package}")
    assert len(module.__all__) <= MOST_NAMES
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "[name for name in ('numpy', 'torch', 'transformers', 'rich', 'sqlalchemy') if name in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, adaptare; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_one_call_measures_the_overhead_of_ranks(tmp_path: Path) -> None:
    report = adaptare.overhead("tiny-random", ranks=[1, 8], store=tmp_path / "adaptare.db", **ONE_CALL)  # type: ignore[arg-type]
    assert [(row.rank, row.mode) for row in report.rows] == [(1, "swappable"), (8, "swappable"), (8, "merged")]
    assert all(row.overhead_lower <= row.overhead <= row.overhead_upper for row in report.rows)
    assert not report.failures
    assert len(adaptare.Store(tmp_path / "adaptare.db").measurements()) == 3


def test_the_order_of_ranks_does_not_matter(tmp_path: Path) -> None:
    report = adaptare.overhead("tiny-random", ranks=[8, 1], store=tmp_path / "adaptare.db", **ONE_CALL)  # type: ignore[arg-type]
    assert {row.rank for row in report.rows if row.mode == "merged"} == {8}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": []}, "nothing is left to measure"),
        ({"generated": 3}, "generated tokens follow a prompt"),
        ({"generated": -1}, "generated must be at least 0, not -1"),
        ({"tasks": 2, "stubs": True}, "a comparison for several tasks loads whole models"),
        ({"half_width": 2.0}, "half_width must lie between 0 and 1"),
        ({"openings": 0}, "openings must be at least 1, not 0"),
        ({"adapters": "folder", "placements": ["q_proj"]}, "an adapter has sites of its own"),
    ],
)
def test_bad_input_is_refused_before_a_model_is_opened(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adaptare.overhead("no such model", **{**ONE_CALL, **options})  # type: ignore[arg-type]


def test_one_call_takes_an_adapter_by_its_folder(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter_config.json"
    adapter.write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}')
    report = adaptare.overhead("tiny-random", adapter, store=tmp_path / "adaptare.db", **ONE_CALL)  # type: ignore[arg-type]
    assert {row.rank for row in report.rows} == {2}


def test_a_table_is_shown_in_notebooks_with_its_text_escaped() -> None:
    table = Table("a < b", [Column[int]("n", str), Column[int]("square", lambda n: str(n * n))], [2, 3])
    assert table._repr_html_() == (
        "<table><caption>a &lt; b</caption><tr><th>n</th><th>square</th></tr>"
        "<tr><td>2</td><td>4</td></tr><tr><td>3</td><td>9</td></tr></table>"
    )
