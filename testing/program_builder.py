"""Suite of a program builder: it turns workloads into programs that a device of its runtime loads."""

import hashlib
from dataclasses import replace
from typing import get_args

import pytest

from adaptare.core import InputError
from adaptare.devices import Device
from adaptare.profiler import Configuration, FixedRounds, Mode, Programs, Workload, profile
from adaptare.testing.shapes import SHAPE

ADAPTER = Configuration.of({SHAPE.sites[0].path: 2, SHAPE.sites[-1].path: 4})
DECODE, PREFILL = Workload(SHAPE, ADAPTER, past=5), Workload(SHAPE, ADAPTER, phase="prefill", tokens=6)


class ProgramBuilderSuite:
    """Tests of a program builder, on a llama of two layers.

    Fixtures to define, with `scope="class"`:
        builder: The `Programs` of a runtime.
        device: A `Device` with this runtime.
    """

    @pytest.fixture(scope="class", params=[DECODE, PREFILL], ids=["decode", "prefill"])
    @classmethod
    def workload(cls, request: pytest.FixtureRequest) -> Workload:
        """A workload with adapters of two ranks."""
        found: Workload = request.param
        return found

    def test_offers_different_modes_that_there_are(self, builder: Programs, workload: Workload) -> None:
        modes = builder.modes(workload)
        assert modes
        assert len(set(modes)) == len(modes)
        assert set(modes) <= set(get_args(Mode))

    def test_estimates_the_memory_of_every_mode(self, builder: Programs, workload: Workload) -> None:
        for mode in builder.modes(workload):
            need = builder.need(replace(workload, mode=mode))
            assert need.program
            assert need.program_bytes >= 0
            assert need.feed_bytes >= 4 * workload.batch  # a token id for each sequence, in 32 bits at least

    def test_an_adapter_takes_no_more_memory_than_a_larger_one(self, builder: Programs, workload: Workload) -> None:
        larger = workload.with_configuration(Configuration.uniform(SHAPE, 8))
        assert builder.need(workload).total_bytes < builder.need(larger).total_bytes

    def test_refuses_more_positions_than_the_model_has(self, builder: Programs, workload: Workload) -> None:
        longer = replace(workload, past=128, tokens=129)
        for ask in (builder.check, builder.need):
            with pytest.raises(InputError, match="the model ends at 128 positions"):
                ask(longer)

    def test_a_base_lies_on_the_disk(self, builder: Programs, workload: Workload) -> None:
        assert builder.disk_bytes(workload.base) >= workload.shape.parameters / 2  # 4 bits for a weight at least

    def test_a_program_has_one_feed_which_is_named_by_the_workload(self, builder: Programs, workload: Workload) -> None:
        for made in (builder.program(workload), builder.merged_reference(workload)):
            assert [(feed.name, feed.work) for feed in made.feeds] == [(workload.hash, workload.work())]

    def test_a_workload_makes_the_same_program_each_time(self, builder: Programs, workload: Workload) -> None:
        assert builder.program(workload).hash == builder.program(workload).hash

    def test_other_ranks_make_another_program(self, builder: Programs, workload: Workload) -> None:
        other = workload.with_configuration(Configuration.uniform(SHAPE, 1))
        assert builder.program(workload).hash != builder.program(other).hash

    def test_the_files_of_a_program_are_there_and_have_its_digests(self, builder: Programs, workload: Workload) -> None:
        for file in builder.program(workload).files:
            assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.digest

    def test_every_mode_is_measured_and_computes_what_merging_does(
        self, builder: Programs, device: Device, workload: Workload
    ) -> None:
        every = [replace(workload, mode=mode) for mode in builder.modes(workload)]
        found = profile(every, reference=workload.base, device=device, stop=FixedRounds(3), seed=0, programs=builder)
        assert [each.failure for each in found] == [""] * len(every)
        assert all(each.complete for each in found)
