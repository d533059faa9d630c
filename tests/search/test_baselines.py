from pathlib import Path

import numpy as np
import pytest

from adaptare.profiler import Configuration, ModelShape, named_space, read_space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search.algorithms.baselines import baselines, midpoint, uniform_cuts


def tiny(family: str = "llama") -> ModelShape:
    return ModelShape.from_mapping(
        {
            "model_type": family,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
            "vocab_size": 64,
            "pad_token_id": 0,
        }
    )


SHAPE = tiny()


def by_name(space_name: str = "kinds", shape: ModelShape = SHAPE) -> dict[str, Configuration]:
    return baselines(named_space(space_name, shape))


def test_there_is_one_uniform_baseline_per_rank_and_one_of_each_part_of_layers() -> None:
    parts = ["q+v 16", "attention 16", "MLP 16"]
    assert list(by_name()) == [*(f"uniform {rank}" for rank in (2, 4, 8, 16)), "midpoint", *parts]


def test_attention_and_mlp_are_the_halves_of_the_largest_uniform_one() -> None:
    found = by_name("layers")
    ranks = {**dict(found["attention 16"].ranks), **dict(found["MLP 16"].ranks)}
    assert Configuration.of(ranks) == found["uniform 16"]
    assert len(found["attention 16"].ranks) == 2 * 4
    assert len(found["MLP 16"].ranks) == 2 * 3


def test_query_and_value_have_adapters_alone_even_where_the_space_ties_them_to_others() -> None:
    assert by_name("layers")["q+v 16"] == Configuration.uniform(SHAPE, 16, kinds=("q_proj", "v_proj"))


def test_fused_attention_stands_for_query_and_value() -> None:
    fused = tiny("phi3")
    found = by_name(shape=fused)
    assert found["qkv 16"] == Configuration.uniform(fused, 16, kinds=("qkv_proj",))
    assert not any(name.startswith("q+v") for name in found)


@pytest.mark.parametrize(
    ("ranks", "middle"),
    [((8, 12, 16), 12), ((0, 2, 4, 8), 4)],
)
def test_the_midpoint_takes_the_middle_choice_everywhere(ranks: tuple[int, ...], middle: int) -> None:
    space = named_space("blocks", SHAPE, ranks=ranks)
    assert np.all(space.at(midpoint(space)[None]) == middle)


def test_baselines_keep_to_the_ranks_that_all_their_sites_can_carry(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "groups:\n- {sites: '*.self_attn.*', ranks: [0, 4, 16]}\n- {sites: '*.down_proj', ranks: [0, 2, 4]}\n"
    )
    names = list(baselines(read_space(file, SHAPE)))
    assert names == ["uniform 2", "uniform 4", "midpoint", "q+v 16", "attention 16", "MLP 4"]


def test_no_baseline_is_without_adapter() -> None:
    assert baselines(rank_space("none", SHAPE, [[SHAPE.sites[0].path]], ((0,),))) == {}


def test_uniform_cuts_are_all_smaller_models_of_one_width(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("groups:\n- {sites: '*', ranks: [4, 8], tie: all}\n- {widths: [16, 32, 64]}\n- {depth: [1, 2]}\n")
    space = read_space(file, SHAPE)
    cuts = uniform_cuts(space)
    assert list(cuts) == [
        "1 layers of width 16",
        "1 layers of width 32",
        "1 layers",
        "uniform width 16",
        "uniform width 32",
    ]
    configs = {name: space.decode(space.at(points)) for name, points in cuts.items()}
    assert {config.ranks for name, config in configs.items() if "layers" not in name} == {
        Configuration.uniform(SHAPE, 8).ranks
    }
    assert configs["uniform width 32"].by_layer == {0: 32, 1: 32}
    assert configs["1 layers of width 32"].left_out == configs["1 layers"].left_out != ()
    assert len(configs["1 layers of width 32"].by_layer) == 1


def test_baselines_of_a_space_below_its_base_are_of_its_largest_model(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("groups:\n- {sites: '*', ranks: [4, 8]}\n- {depth: [1]}\n")
    space = read_space(file, SHAPE)
    found = baselines(space)
    assert {"uniform 8", "q+v 8", "midpoint"} <= set(found)
    (gone,) = space.decode(space.at(space.highest)).left_out
    for config in found.values():
        assert config.left_out == (gone,)
        assert config.ranks
        assert space.decode(space.encode(config)) == config
