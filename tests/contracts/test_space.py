"""What every rank space keeps to. A new recipe, family or file joins by one line in `SPACES`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from adaptare.devices import InputError
from adaptare.profiler import AdapterConfig, ModelShape, RankSpace, named_space, read_space

MIXED = """
groups:
- {sites: ["*.q_proj", "*.v_proj"], ranks: [8, 0, 2], tie: all}
- {sites: "*.down_proj", ranks: [1, 4], tie: none}
- {sites: "*.mlp.*", ranks: [0, 16]}
"""
FIXED = "groups:\n- {sites: '*', ranks: [4]}\n"


def shape(family: str) -> ModelShape:
    return ModelShape.from_mapping(
        {
            "model_type": family,
            "num_hidden_layers": 3,
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "vocab_size": 64,
            "pad_token_id": 0,
        }
    )


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Path], RankSpace]


def from_yaml(content: str) -> Callable[[Path], RankSpace]:
    def make(folder: Path) -> RankSpace:
        file = folder / "space.yaml"
        file.write_text(content)
        return read_space(file, shape("llama"))

    return make


SPACES = [
    Case("layers of llama", lambda folder: named_space("layers", shape("llama"))),
    Case("blocks of qwen3", lambda folder: named_space("blocks", shape("qwen3"))),
    Case("kinds of gemma2", lambda folder: named_space("kinds", shape("gemma2"))),
    Case("kinds of phi3, which is fused", lambda folder: named_space("kinds", shape("phi3"))),
    Case("sites of mistral", lambda folder: named_space("sites", shape("mistral"))),
    Case("no zero among the ranks", lambda folder: named_space("blocks", shape("qwen2"), ranks=(16, 8))),
    Case("YAML with mixed ties", from_yaml(MIXED)),
    Case("YAML with one choice", from_yaml(FIXED)),
]


@pytest.fixture(scope="module", params=SPACES, ids=lambda case: case.name)
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RankSpace:
    made: RankSpace = request.param.make(tmp_path_factory.mktemp("space"))
    return made


def test_every_site_is_in_exactly_one_group(space: RankSpace) -> None:
    assert sorted(site for members in space.groups for site in members) == list(range(space.n_sites))


def test_choices_ascend_and_there_are_as_many_as_it_says(space: RankSpace) -> None:
    assert all(list(ranks) == sorted(set(ranks)) for ranks in space.choices)
    assert space.n_choices.tolist() == [len(ranks) for ranks in space.choices]
    assert space.n_groups == len(space.groups) == len(space.choices)


def test_no_choice_is_larger_than_its_layers(space: RankSpace) -> None:
    for members, ranks in zip(space.groups, space.choices, strict=True):
        assert ranks[-1] <= min(space.sites[site].largest_rank for site in members)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_genes_expand_to_one_code_per_site(space: RankSpace, n: int) -> None:
    genes = space.sample(n, np.random.default_rng(0))
    assert genes.shape == (n, space.n_groups)
    assert space.expand(genes).shape == (n, space.n_sites)


@pytest.mark.parametrize("draw", [RankSpace.sample, RankSpace.spread], ids=["sample", "spread"])
def test_drawn_ranks_are_choices_and_equal_on_tied_sites(
    space: RankSpace, draw: Callable[[RankSpace, int, np.random.Generator], np.ndarray]
) -> None:
    codes = space.expand(draw(space, 40, np.random.default_rng(0)))
    for members, ranks in zip(space.groups, space.choices, strict=True):
        tied = codes[:, list(members)]
        assert np.isin(tied, ranks).all()
        assert (tied == tied[:, :1]).all()


def test_encoding_what_was_decoded_gives_the_codes_back(space: RankSpace) -> None:
    for codes in space.expand(space.sample(20, np.random.default_rng(0))):
        assert np.array_equal(space.encode(space.decode(codes)), codes)


def test_a_decoded_config_has_the_ranks_of_the_codes(space: RankSpace) -> None:
    codes = space.expand(space.sample(1, np.random.default_rng(3)))[0]
    config = space.decode(codes)
    expected = {site.path: rank for site, rank in zip(space.sites, codes.tolist(), strict=True) if rank}
    assert dict(config.by_path) == expected


def test_ranks_that_are_no_choice_can_be_encoded(space: RankSpace) -> None:
    config = AdapterConfig.of({space.sites[-1].path: 3})
    assert space.decode(space.encode(config)) == config


def test_a_site_outside_the_space_cannot_be_encoded(space: RankSpace) -> None:
    with pytest.raises(InputError, match=r"has no site 'model\.layers\.99\.self_attn\.q_proj'"):
        space.encode(AdapterConfig.of({"model.layers.99.self_attn.q_proj": 4}))


def test_different_genes_are_different_codes(space: RankSpace) -> None:
    genes = np.unique(space.sample(200, np.random.default_rng(0)), axis=0)
    assert len(np.unique(space.expand(genes), axis=0)) == len(genes)


def test_samples_take_every_choice_equally_often(space: RankSpace) -> None:
    n = 4000
    genes = space.sample(n, np.random.default_rng(0))
    for group, n_choices in enumerate(space.n_choices):
        shares = np.bincount(genes[:, group], minlength=n_choices) / n
        # Five standard deviations of a binomial share.
        assert np.all(np.abs(shares - 1 / n_choices) <= 5 * np.sqrt((1 - 1 / n_choices) / n_choices / n))


def test_a_spread_reaches_from_few_adapters_to_many(space: RankSpace) -> None:
    can_be_empty = np.array([ranks[0] == 0 for ranks in space.choices])
    genes = space.spread(100, np.random.default_rng(0))
    if not can_be_empty.any():
        assert np.all(space.expand(genes) > 0)
        return
    share = np.mean(genes[:, can_be_empty] > 0, axis=1)
    assert np.quantile(share, 0.1) <= 0.25
    assert np.quantile(share, 0.9) >= 0.75


def test_a_spread_reaches_from_low_ranks_to_high(space: RankSpace) -> None:
    highest = space.n_choices - 1
    lowest = np.array([int(ranks[0] == 0) for ranks in space.choices])
    genes = space.spread(100, np.random.default_rng(0))
    if not np.any(highest > lowest):
        assert np.all((genes == highest) | (genes == 0))
        return
    assert np.any(np.all((genes <= lowest) & (genes < np.maximum(highest, 1)), axis=1))
    assert np.any(np.all((genes == highest) | (genes == 0), axis=1) & (genes > 0).any(axis=1))


@pytest.mark.parametrize("draw", [RankSpace.sample, RankSpace.spread], ids=["sample", "spread"])
def test_the_same_seed_draws_the_same_genes(
    space: RankSpace, draw: Callable[[RankSpace, int, np.random.Generator], np.ndarray]
) -> None:
    once, again = (draw(space, 9, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(once, again)
