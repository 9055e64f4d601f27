"""Search spaces: sizes, presets, the text form, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from hpcnas.architecture.space import FLAT, HIERARCHICAL, Level, Space, SpaceError


def test_the_papers_hierarchical_space() -> None:
    assert HIERARCHICAL.levels == (Level(motifs=6, nodes=4), Level(motifs=1, nodes=5))
    assert HIERARCHICAL.top == 3
    assert HIERARCHICAL.edges == 6 * 6 + 10


def test_the_papers_flat_space() -> None:
    assert FLAT.levels == (Level(motifs=1, nodes=11),)
    assert FLAT.top == 2
    assert FLAT.edges == 55


@pytest.mark.parametrize(("nodes", "edges"), [(2, 1), (3, 3), (4, 6), (5, 10), (11, 55)])
def test_a_motif_has_an_edge_for_every_pair_of_nodes(nodes: int, edges: int) -> None:
    assert Level(motifs=1, nodes=nodes).edges == edges


def test_levels_are_numbered_from_2() -> None:
    space = Space.parse("2x3/4x5/1x6")
    assert [space.level(number).motifs for number in (2, 3, 4)] == [2, 4, 1]
    assert space.edges == 2 * 3 + 4 * 10 + 15


@pytest.mark.parametrize("number", [-1, 0, 1, 4])
def test_other_levels_do_not_exist(number: int) -> None:
    with pytest.raises(SpaceError, match=f"expected a level from 2 to 3, got {number}"):
        HIERARCHICAL.level(number)


@pytest.mark.parametrize("text", ["hierarchical", "flat", "1x2", "3x3/1x4", "2x3/4x5/1x6", "255x255/1x255"])
def test_the_text_form_comes_back(text: str) -> None:
    assert str(Space.parse(text)) == text


@pytest.mark.parametrize("text", ["6x4/1x5", " 6x4 / 1x5 ", "hierarchical"])
def test_a_named_space_may_be_written_out(text: str) -> None:
    assert Space.parse(text) == HIERARCHICAL
    assert hash(Space.parse(text)) == hash(HIERARCHICAL)


def test_spaces_of_other_sizes_are_not_equal() -> None:
    assert len({Space.parse(text) for text in ("6x4/1x5", "6x5/1x5", "5x4/1x5", "6x4/1x4", "1x5")}) == 5


def test_a_space_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        HIERARCHICAL.levels = ()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        HIERARCHICAL.levels[0].nodes = 5  # type: ignore[misc]


@pytest.mark.parametrize("text", ["", "6", "6x", "6x4/", "/1x5", "6×4/1x5", "-6x4/1x5", "6x4x1", "6.0x4/1x5", "Flat"])
def test_what_is_no_text_form_is_shown_the_form(text: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Space.parse(text)
    assert "expected hierarchical or flat, or MOTIFSxNODES per level" in str(caught.value)
    assert f"got {text!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0x4/1x5", "level 2: expected 1 to 255 motifs, got 0"),
        ("256x4/1x5", "level 2: expected 1 to 255 motifs, got 256"),
        ("6x1/1x5", "level 2: expected 2 to 255 nodes a motif, got 1"),
        ("6x4/1x256", "level 3: expected 2 to 255 nodes a motif, got 256"),
        ("6x4/2x5", "the top level (level 3) is the whole cell and has one motif, got 2"),
        ("2x11", "the top level (level 2) is the whole cell and has one motif, got 2"),
    ],
)
def test_sizes_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Space.parse(text)
    assert str(caught.value) == message


def test_a_space_has_a_level() -> None:
    with pytest.raises(SpaceError, match="at least one level of motifs"):
        Space(())


def test_a_space_may_choose_primitives() -> None:
    space = Space.parse("1x4:id,1x1,sep,avg")
    assert space.chosen == ("1x1", "sep", "avg", "id")
    assert space.primitive_codes == (1, 3, 5, 6)
    assert str(space) == space.sizes == "1x4:1x1,sep,avg,id"
    assert Space.parse(str(space)) == space != Space.parse("1x4")
    assert str(Space.parse("flat:sep, id")) == "flat:sep,id"


def test_a_choice_of_all_is_none() -> None:
    assert str(Space.parse("hierarchical:id,avg,max,sep,dw,1x1")) == "hierarchical"
    assert HIERARCHICAL.primitive_codes == (1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("names", ["", "id,", "id,id", "id,conv", "ID"])
def test_a_choice_is_of_the_primitives_each_once(names: str) -> None:
    with pytest.raises(SpaceError, match="expected after the colon some of 1x1, dw, sep, max, avg, id, each once, got"):
        Space.parse(f"flat:{names}")


def test_equal_spaces_have_one_hash_which_is_of_numbers_alone() -> None:
    """It is kept, and sent to other processes, in which texts have other hashes."""
    space = Space.parse("6x4/1x5:id,sep")
    assert hash(space) == hash(Space.parse("6x4/1x5:sep,id")) == hash(((6, 4), (1, 5)))
    assert pickle.loads(pickle.dumps(space)) == space and space != Space.parse("6x4/1x5")
