"""Suites fail where something does not keep to its contract: each of these toys breaks one rule."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

WALKS = Path(__file__).parents[1] / "walks"
BROKEN = """
import numpy as np
import pytest
from toy_device import Abacus, AbacusWorker
from toy_objective import Download
from toy_space import slim

from adaptare.devices import Program
from adaptare.devices.agent.torch_runtime import TorchRuntime
from adaptare.profiler import ModelShape, Space
from adaptare.testing import *

SHAPE = ModelShape("llama", 2, 64, 4, 2, 16, 96, 64, "{}")
SPACE = slim(SHAPE)


class TestDevice(DeviceSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, request):
        run = AbacusWorker.run
        patch = pytest.MonkeyPatch()
        patch.setattr(AbacusWorker, "run", lambda worker, program, feed, calls: run(worker, program, feed, 1))
        yield Abacus()
        patch.undo()

    @pytest.fixture(scope="class")
    @classmethod
    def programs(cls):
        good, other = (Program(name, "simulated", name, FEEDS) for name in ("good", "other"))
        return DevicePrograms(good, other, good, Program("failing", "melody", "{}", FEEDS))


class Shifting(TorchRuntime):
    def setup(self, threads, options):
        return super().setup(threads, options)._replace(version="torch")


class TestRuntime(RuntimeSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def runtime(cls):
        return Shifting()

    @pytest.fixture(scope="class")
    @classmethod
    def program(cls, tmp_path_factory):
        return RuntimeProgram(str(tmp_path_factory.mktemp("none")), f"{__name__}:factory", {}, {})


class factory:
    def bind(self, arguments):
        return lambda: [1.0], lambda: None


class Upward(Space):
    def sample(self, n, rng):
        return np.maximum(super().sample(n, rng), 1)


class TestSpace(SpaceSuite):
    @pytest.fixture
    def space(self):
        return Upward(SPACE.name, SPACE.shape, SPACE.axes)


class Relative(Download):
    def __call__(self, codes):
        values = super().__call__(codes)
        return values / values.max(initial=1e-9)


class TestObjective(ObjectiveSuite):
    @pytest.fixture
    def space(self):
        return SPACE

    @pytest.fixture
    def objective(self):
        return Relative(SPACE, SHAPE)
"""


@pytest.mark.slow
def test_what_breaks_a_rule_fails_the_test_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text(BROKEN, encoding="utf-8")
    paths = [str(WALKS), str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    failed = set(re.findall(r"FAILED test_broken\.py::Test(\w+)::(\w+)", done.stdout))
    assert failed == {
        ("Device", "test_gives_one_positive_time_per_call"),
        ("Device", "test_runs_every_feed_of_a_program"),
        ("Device", "test_one_program_can_be_loaded_twice_at_once"),
        ("Device", "test_a_failing_program_leaves_the_others_served"),
        ("Device", "test_restores_state_between_calls"),
        ("Runtime", "test_its_version_is_a_name_and_a_number"),
        ("Space", "test_samples_take_every_choice_equally_often"),
        ("Objective", "test_gives_the_same_number_again_in_any_company"),
    }, done.stdout
    assert "assert" in done.stdout
    assert "where" in done.stdout, "failed assertions show their values"
