"""Suite of a space: its points expand to codes, and codes are configurations."""

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.profiler import WIDTH, Configuration, Space
from adaptare.profiler.workloads import LAYER


class SpaceSuite:
    """Tests of a space, of ranks, of widths or of both.

    Fixture to define:
        space: The `Space`.
    """

    def test_every_dimension_belongs_to_one_axis_and_is_of_the_base(self, space: Space) -> None:
        assert len(set(space.dimensions)) == len(space.dimensions)
        assert all(each.place in each.kind.places(space.shape) for each in space.dimensions)

    def test_axes_have_different_names(self, space: Space) -> None:
        assert len({axis.name for axis in space.axes}) == space.n_axes

    def test_choices_ascend_and_there_are_as_many_as_it_says(self, space: Space) -> None:
        assert all(list(axis.choices) == sorted(set(axis.choices)) for axis in space.axes)
        assert space.n_choices.tolist() == [len(axis.choices) for axis in space.axes]
        assert space.n_axes == len(space.axes)

    def test_no_choice_is_larger_than_its_layers(self, space: Space) -> None:
        for axis in space.axes:
            if axis.kind.presence:
                assert axis.choices[-1] <= len(axis.dimensions)
                continue
            for each in axis.dimensions:
                each.check(axis.choices[-1], space.shape, space.shape.site_by_path)

    @pytest.mark.parametrize("n", [0, 1, 7])
    def test_points_expand_to_one_code_per_column(self, space: Space, n: int) -> None:
        points = space.sample(n, np.random.default_rng(0))
        assert points.shape == (n, space.n_axes)
        assert space.at(points).shape == (n, len(space.dimensions))

    @pytest.mark.parametrize("draw", ["sample", "spread"])
    def test_drawn_numbers_are_choices_and_equal_on_tied_columns(self, space: Space, draw: str) -> None:
        codes = space.at(getattr(space, draw)(40, np.random.default_rng(0)))
        left_out = codes[:, [each.kind == LAYER for each in space.dimensions]] == 0
        for axis in space.axes:
            tied = codes[:, [each in axis.dimensions for each in space.dimensions]]
            if not left_out.any() and not axis.kind.presence:
                assert np.isin(tied, axis.choices).all()
                assert (tied == tied[:, :1]).all()

    def test_encoding_what_was_decoded_gives_the_codes_back(self, space: Space) -> None:
        for codes in space.at(space.sample(20, np.random.default_rng(0))):
            assert np.array_equal(space.encode(space.decode(codes)), codes)

    def test_a_decoded_configuration_has_the_ranks_and_widths_of_the_codes(self, space: Space) -> None:
        codes = space.at(space.sample(1, np.random.default_rng(3)))[0]
        found = space.decode(codes)
        numbers = zip(space.dimensions, codes.tolist(), space.base.tolist(), strict=True)
        assert dict(found.values) == {each: value for each, value, usual in numbers if value != usual}

    def test_only_the_base_does_not_change_the_base(self, space: Space) -> None:
        codes = np.vstack([space.base, space.at(space.sample(20, np.random.default_rng(0)))])
        assert space.changes_base(codes).tolist() == [space.decode(row) != Configuration() for row in codes]
        assert space.decode(space.base) == Configuration()

    def test_ranks_that_are_no_choice_can_be_encoded(self, space: Space) -> None:
        config = Configuration.of({site.path: 3 for site in space.sites[-1:]})
        assert space.decode(space.encode(config)) == config

    def test_a_site_outside_the_space_cannot_be_encoded(self, space: Space) -> None:
        with pytest.raises(InputError, match=r"does not set the rank of model\.layers\.99\.self_attn\.q_proj"):
            space.encode(Configuration.of({"model.layers.99.self_attn.q_proj": 4}))

    def test_a_width_outside_the_space_cannot_be_encoded(self, space: Space) -> None:
        with pytest.raises(InputError, match="does not set the width of layer 99"):
            space.encode(Configuration(((WIDTH(99), 4),)))

    def test_different_points_are_different_codes(self, space: Space) -> None:
        points = np.unique(space.sample(200, np.random.default_rng(0)), axis=0)
        assert len(np.unique(space.at(points), axis=0)) == len(points)

    def test_samples_take_every_choice_equally_often(self, space: Space) -> None:
        n = 4000
        points = space.sample(n, np.random.default_rng(0))
        for group, n_choices in enumerate(space.n_choices):
            shares = np.bincount(points[:, group], minlength=n_choices) / n
            # Five standard deviations of a binomial share.
            assert np.all(np.abs(shares - 1 / n_choices) <= 5 * np.sqrt((1 - 1 / n_choices) / n_choices / n))

    def test_a_spread_reaches_from_few_adapters_to_many(self, space: Space) -> None:
        can_be_empty = np.array([each.choices[0] == 0 for each in space.axes])
        points = space.spread(100, np.random.default_rng(0))
        if not can_be_empty.any():
            assert np.all(space.at(points) > 0)
            return
        share = np.mean(points[:, can_be_empty] > 0, axis=1)
        assert np.quantile(share, 0.1) <= 0.25
        assert np.quantile(share, 0.9) >= 0.75

    def test_a_spread_reaches_from_low_ranks_to_high(self, space: Space) -> None:
        highest = space.highest
        lowest = np.array([int(each.choices[0] == 0) for each in space.axes])
        points = space.spread(100, np.random.default_rng(0))
        if not np.any(highest > lowest):
            assert np.all((points == highest) | (points == 0))
            return
        assert np.any(np.all((points <= lowest) & (points < np.maximum(highest, 1)), axis=1))
        assert np.any(np.all((points == highest) | (points == 0), axis=1) & (points > 0).any(axis=1))

    @pytest.mark.parametrize("draw", ["sample", "spread"])
    def test_the_same_seed_draws_the_same_points(self, space: Space, draw: str) -> None:
        once, again = (getattr(space, draw)(9, np.random.default_rng(5)) for _ in range(2))
        assert np.array_equal(once, again)
