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


def test_all_sites_of_an_entry_can_be_tied(read: ReadText) -> None:
    space = read("groups: [{sites: '*.down_proj', ranks: [1, 2], tie: all}]")
    assert paths(space) == [[f"model.layers.{n}.mlp.down_proj" for n in range(3)]]


def test_every_site_can_be_free(read: ReadText) -> None:
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


def test_sites_that_no_entry_names_are_not_in_the_space(read: ReadText) -> None:
    space = read("groups: [{sites: '*.o_proj', ranks: [0, 2]}]")
    assert [site.path for site in space.sites] == [f"model.layers.{n}.self_attn.o_proj" for n in range(3)]


def test_sites_keep_the_order_of_the_shape_whatever_the_order_of_entries(read: ReadText) -> None:
    space = read("groups: [{sites: '*.down_proj', ranks: [0, 1]}, {sites: '*.q_proj', ranks: [0, 1]}]")
    assert list(space.sites) == [site for site in SHAPE.sites if site.kind in ("q_proj", "down_proj")]


def test_ranks_are_put_in_order(read: ReadText) -> None:
    assert read("groups: [{sites: '*.o_proj', ranks: [4, 0, 2], tie: all}]").axes[0].choices == (0, 2, 4)


def test_a_space_bears_the_name_of_its_file(tmp_path: Path, read: ReadText) -> None:
    assert read("groups: [{sites: '*', ranks: [0, 1]}]").name == str(tmp_path / "space.yaml")


def test_the_recipe_layers_is_this_file(read: ReadText) -> None:
    written = read("groups: [{sites: ['*'], ranks: [0, 2, 4, 8], tie: layer}]")
    named = named_space("layers", SHAPE, ranks=(0, 2, 4, 8))
    assert written.axes == named.axes


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


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("widths: [4], sites: '*'", "needs `widths`, may have `layers` and `tie`, nothing else"),
        ("widths: [0, 4]", "`widths` must be different whole numbers >= 1, not "),
        ("widths: [4, 4000]", "width of layer 0 must be 1 to 24 in this base model, not 4000"),
        ("widths: [4], tie: none", "`tie` must be layer or all, not 'none'"),
        ("widths: [4], layers: [3]", "`layers` must be a list of numbers from 0 to 2, not "),
        ("widths: [4], layers: []", "matches no layer, or only layers of earlier entries"),
    ],
)
def test_widths_that_are_none_are_told(read: ReadText, entry: str, message: str) -> None:
    with pytest.raises(InputError, match=f"entry 2: .*{message}"):
        read(f"groups: [{{sites: '*.q_proj', ranks: [1]}}, {{{entry}}}]")


def test_a_rank_must_fit_the_narrowest_width(read: ReadText) -> None:
    with pytest.raises(InputError, match=r"entry 1: rank of .*down_proj must be 0 to 6 in this base model, not 8"):
        read("groups: [{sites: '*.down_proj', ranks: [8]}, {widths: [6, 8]}]")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"space '.*absent.yaml' cannot be read: No such file or directory"):
        read_space(tmp_path / "absent.yaml", SHAPE)


def test_a_folder_is_no_space(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read: Is a directory"):
        read_space(tmp_path, SHAPE)


def test_a_binary_file_is_no_space(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"is not YAML: 'utf-8' codec can't decode"):
        read_space(file, SHAPE)


def test_what_is_no_yaml_is_told_with_its_place(read: ReadText) -> None:
    with pytest.raises(InputError, match=r"(?s)is not YAML: .*line 1, column"):
        read("groups: [")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("groups:\n- {sites: '*', ranks: [0, 4], ranks: [0, 64]}", "ranks"),
        ("groups: []\ngroups:\n- {sites: '*', ranks: [1]}", "groups"),
    ],
)
def test_a_key_that_is_written_twice_is_refused(read: ReadText, text: str, key: str) -> None:
    with pytest.raises(InputError, match=f"is not YAML: the key '{key}' is written twice, again in line 2$"):
        read(text)


@pytest.mark.parametrize("text", ["", "7", "[]", "sites: []", "groups:", "groups: {}", "groups: []", "groups: '*'"])
def test_a_file_without_groups_is_told_what_it_needs(read: ReadText, text: str) -> None:
    with pytest.raises(InputError, match="needs a list `groups` of entries with `sites` and `ranks`"):
        read(text)


@pytest.mark.parametrize(
    "entry",
    ["7", "[]", "{sites: '*'}", "{ranks: [1]}", "{sites: '*', ranks: [1], rank: 2}", "{sites: '*', ranks: [1], 3: 4}"],
)
def test_an_entry_with_other_keys_is_shown(read: ReadText, entry: str) -> None:
    with pytest.raises(InputError, match=r"entry 2: needs `ranks` and `sites`, may have `tie`, nothing else; has "):
        read(f"groups: [{{sites: '*.q_proj', ranks: [1]}}, {entry}]")


@pytest.mark.parametrize("sites", ["7", "{a: b}", "[7]", "['*', null]"])
def test_sites_that_are_no_globs_are_shown(read: ReadText, sites: str) -> None:
    with pytest.raises(InputError, match="entry 1: `sites` must be a glob or a list of globs, not "):
        read(f"groups: [{{sites: {sites}, ranks: [1]}}]")


@pytest.mark.parametrize("ranks", ["4", "[]", "[-1]", "[1.5]", "['4']", "[true]", "[2, 2]", "{0: 1}", "null"])
def test_ranks_that_are_none_are_shown(read: ReadText, ranks: str) -> None:
    with pytest.raises(InputError, match="entry 1: `ranks` must be different whole numbers >= 0, not "):
        read(f"groups: [{{sites: '*', ranks: {ranks}}}]")


@pytest.mark.parametrize("tie", ["model", "3", "[layer]", "{}"])
def test_an_unknown_tie_is_answered_with_the_known(read: ReadText, tie: str) -> None:
    with pytest.raises(InputError, match="entry 1: `tie` must be layer, all or none, not "):
        read(f"groups: [{{sites: '*', ranks: [1], tie: {tie}}}]")


def test_globs_that_name_nothing_are_shown(read: ReadText) -> None:
    with pytest.raises(InputError, match=r"entry 1: matches no linear, or only linears of earlier entries"):
        read("groups: [{sites: '*.query', ranks: [1]}]")


def test_globs_that_name_only_what_is_taken_are_shown(read: ReadText) -> None:
    with pytest.raises(InputError, match=r"entry 2: matches no linear, or only linears of earlier entries"):
        read("groups: [{sites: '*', ranks: [1]}, {sites: '*.q_proj', ranks: [1]}]")


def test_ranks_beyond_the_smallest_layer_are_refused(read: ReadText) -> None:
    with pytest.raises(InputError, match=r"entry 1: rank of .*k_proj must be 0 to 8 in this base model, not 9"):
        read("groups: [{sites: ['*.q_proj', '*.k_proj'], ranks: [0, 9]}]")


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
