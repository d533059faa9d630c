"""Spaces written as YAML: what they mean, and what is said where they mean nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import LlamaConfig

from adaptare.core import InputError
from adaptare.profiler import RANK, WIDTH, ModelShape, Space, named_space, read_space

SHAPE = ModelShape.from_config(
    LlamaConfig(
        num_hidden_layers=3,
        hidden_size=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        vocab_size=40,
    )
)
ReadText = Callable[[str], Space]


@pytest.fixture
def read(tmp_path: Path) -> ReadText:
    def read_text(text: str) -> Space:
        file = tmp_path / "space.yaml"
        file.write_text(text, encoding="utf-8")
        return read_space(file, SHAPE)

    return read_text


def paths(space: Space) -> list[list[str]]:
    return [[each.place for each in axis.dimensions] for axis in space.axes]


@pytest.mark.parametrize(("recipe", "groups"), [("layers", 1), ("blocks", 2), ("kinds", 4), ("sites", 7)])
def test_where_layers_are_alike_a_rank_is_that_of_all_layers(recipe: str, groups: int) -> None:
    space = named_space(recipe, SHAPE, ranks=(0, 4), layers_alike=True)
    assert (space.n_axes, len(space.dimensions)) == (groups, len(SHAPE.sites))
    for group in paths(space):
        by_layer = [{path.split(".", 3)[3] for path in group if f".{layer}." in path} for layer in range(SHAPE.layers)]
        assert by_layer[0] == by_layer[1] == by_layer[2]


def test_sites_of_a_layer_are_tied_unless_said_otherwise(read: ReadText) -> None:
    space = read("groups: [{sites: ['*.q_proj', '*.v_proj'], ranks: [0, 4]}]")
    attention = "model.layers.{}.self_attn"
    assert paths(space) == [[f"{attention}.q_proj".format(n), f"{attention}.v_proj".format(n)] for n in range(3)]


def test_sites_of_an_entry_can_all_be_tied_or_free(read: ReadText) -> None:
    space = read("groups: [{sites: '*.down_proj', ranks: [1, 2], tie: all}]")
    assert paths(space) == [[f"model.layers.{n}.mlp.down_proj" for n in range(3)]]
    space = read("groups: [{sites: '*.layers.1.*', ranks: [0, 1], tie: none}]")
    assert paths(space) == [[site.path] for site in SHAPE.sites if site.layer == 1]


def test_a_site_belongs_to_the_first_entry_that_names_it(read: ReadText) -> None:
    space = read(
        "groups:\n"
        "- {sites: '*.layers.0.*', ranks: [8], tie: all}\n"
        "- {sites: '*.self_attn.q_proj', ranks: [0, 2], tie: all}\n"
    )
    assert paths(space)[1] == ["model.layers.1.self_attn.q_proj", "model.layers.2.self_attn.q_proj"]
    assert [each.choices for each in space.axes] == [(8,), (0, 2)]


def test_sites_keep_the_order_of_the_shape_and_ranks_their_size(tmp_path: Path, read: ReadText) -> None:
    space = read("groups: [{sites: '*.down_proj', ranks: [4, 0, 2]}, {sites: '*.q_proj', ranks: [0, 1]}]")
    assert list(space.sites) == [site for site in SHAPE.sites if site.kind in ("q_proj", "down_proj")]
    assert space.axes[0].choices == (0, 2, 4)
    assert space.name == str(tmp_path / "space.yaml")


def test_the_recipe_layers_is_this_file(read: ReadText) -> None:
    written = read("groups: [{sites: ['*'], ranks: [0, 2, 4, 8], tie: layer}]")
    assert written.axes == named_space("layers", SHAPE, ranks=(0, 2, 4, 8)).axes


def test_widths_are_tied_by_layer_or_over_all_layers_of_an_entry(read: ReadText) -> None:
    space = read(
        "groups: [{sites: '*.q_proj', ranks: [0, 2], tie: all}, {widths: [8, 4], layers: [2, 0], tie: all}, "
        "{widths: [6]}]"
    )
    assert [(axis.name, axis.choices, axis.dimensions) for axis in space.axes] == [
        ("rank of *.q_proj", (0, 2), tuple(RANK(f"model.layers.{layer}.self_attn.q_proj") for layer in range(3))),
        ("width of layers 0, 2", (4, 8), (WIDTH(0), WIDTH(2))),
        ("width in layer 1", (6,), (WIDTH(1),)),
    ]
    assert space.kinds == (RANK, WIDTH)
    assert read("groups: [{sites: '*', ranks: [1]}]").kinds == (RANK,)


NEEDS = "needs a list `groups` of entries with `sites` and `ranks`"
KEYS = "entry 1: needs `ranks` and `sites`, may have `tie`, nothing else; has "
RANKS = "entry 1: `ranks` must be different whole numbers >= 0, not "
WIDTHS = "entry 1: .*`widths` must be different whole numbers >= 1, not "
NOTHING = "matches no linear, or only linears of earlier entries"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: [", r"(?s)is not YAML: .*line 1, column"),
        (
            "groups:\n- {sites: '*', ranks: [0], ranks: [64]}",
            "the key 'ranks' is written twice, again in line 2$",
        ),
        ("groups: []\ngroups:\n- {sites: '*', ranks: [1]}", "the key 'groups' is written twice, again in line 2$"),
        ("", NEEDS),
        ("7", NEEDS),
        ("groups: []", NEEDS),
        ("groups: '*'", NEEDS),
        ("groups: [7]", KEYS),
        ("groups: [{ranks: [1]}]", KEYS),
        ("groups: [{sites: '*', ranks: [1], rank: 2}]", KEYS),
        ("groups: [{sites: [7], ranks: [1]}]", "entry 1: `sites` must be a glob or a list of globs, not "),
        ("groups: [{sites: {a: b}, ranks: [1]}]", "entry 1: `sites` must be a glob or a list of globs, not "),
        ("groups: [{sites: '*', ranks: 4}]", RANKS),
        ("groups: [{sites: '*', ranks: []}]", RANKS),
        ("groups: [{sites: '*', ranks: [-1]}]", RANKS),
        ("groups: [{sites: '*', ranks: [true]}]", RANKS),
        ("groups: [{sites: '*', ranks: [2, 2]}]", RANKS),
        ("groups: [{sites: '*', ranks: [1], tie: [layer]}]", "entry 1: `tie` must be layer, all or none, not "),
        ("groups: [{sites: '*.query', ranks: [1]}]", f"entry 1: {NOTHING}"),
        ("groups: [{sites: '*', ranks: [1]}, {sites: '*.q_proj', ranks: [1]}]", f"entry 2: {NOTHING}"),
        ("groups: [{sites: '*.k_proj', ranks: [0, 9]}]", "entry 1: rank of .*k_proj must be 0 to 8 in this base model"),
        (
            "groups: [{sites: '*.down_proj', ranks: [8]}, {widths: [6, 8]}]",
            "down_proj must be 0 to 6 in this base model",
        ),
        ("groups: [{widths: [4], sites: '*'}]", "needs `widths`, may have `layers` and `tie`, nothing else"),
        ("groups: [{widths: [0, 4]}]", WIDTHS),
        ("groups: [{widths: [4, 4000]}]", "width of layer 0 must be 1 to 24 in this base model, not 4000"),
        ("groups: [{widths: [4], tie: none}]", "`tie` must be layer or all, not 'none'"),
        ("groups: [{widths: [4], layers: [3]}]", "`layers` must be a list of numbers from 0 to 2, not "),
        ("groups: [{widths: [4], layers: []}]", "matches no layer, or only layers of earlier entries"),
    ],
)
def test_a_file_that_means_nothing_is_refused_with_its_place(read: ReadText, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(text)


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"space '.*absent.yaml' cannot be read: No such file or directory"):
        read_space(tmp_path / "absent.yaml", SHAPE)
    with pytest.raises(InputError, match=r"cannot be read: Is a directory"):
        read_space(tmp_path, SHAPE)
    (tmp_path / "space.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"is not YAML: 'utf-8' codec can't decode"):
        read_space(tmp_path / "space.yaml", SHAPE)


def test_an_unknown_recipe_is_answered_with_the_known() -> None:
    known = "layers, blocks, kinds, sites, lonas, shears-gate, subnet, subnet-depth"
    message = f"unknown space 'everything'; known are {known}, or"
    with pytest.raises(InputError, match=message):
        named_space("everything", SHAPE)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "groups: [*m]\n", r"has an alias, \*a; write the values out instead"),
        ("groups: " + "[" * 100_000, "nested deeper than 20 levels"),
        ("groups:" + "".join(f"\n{' ' * level}- " for level in range(1, 200)), "nested deeper than 20 levels"),
    ],
    ids=["bomb", "deep", "deep blocks"],
)
def test_a_file_that_grows_when_it_is_read_is_refused(
    llama: ModelShape, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as refusal:
        read_space(tmp_path / "space.yaml", llama)
    assert len(str(refusal.value)) < 1000
