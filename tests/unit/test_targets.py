"""Symbolic targets: what they mean at one moment of a rack."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from core.ids import NO_NODE, NodeId
from formats.catalog import load_catalog
from formats.problems import Problems
from formats.rack import load_rack
from trial.targets import check, parse, resolve

ROOT = Path(__file__).parents[2]
NODES = tuple(NodeId(f"n{number}") for number in range(1, 8))


class Moment:
    """Seven nodes, five of them voters; n2 holds and n1 leads; n7 is down."""

    def __init__(self, holder: str = "n2", leader: str = "n1", drawn: int = 0) -> None:
        self.nodes: Sequence[NodeId] = NODES
        self._holder = NodeId(holder)
        self._leader = NodeId(leader)
        self._drawn = drawn

    def nodes_of(self, kind: str, name: str) -> Sequence[NodeId]:
        return NODES[:2] if kind == "pdu" else NODES

    def is_up(self, node: NodeId) -> bool:
        return node != "n7"

    def holder_of(self, service: str) -> NodeId:
        return self._holder

    def standby_of(self, service: str) -> NodeId:
        return NodeId("n3")

    def steward_of(self, node: NodeId) -> NodeId:
        return NodeId("n4")

    def leader(self) -> NodeId:
        return self._leader

    def voters(self) -> Sequence[NodeId]:
        return NODES[:5]

    def choose(self, count: int) -> int:
        return self._drawn % count


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("n3", "n3"),
        ("n4, n3", "n3 n4"),
        ("all", "n1 n2 n3 n4 n5 n6 n7"),
        ("holder-of:mariadb", "n2"),
        ("standby-of:mariadb,leader", "n1 n3"),
        ("steward-of:n5", "n4"),
        ("pdu:p1", "n1 n2"),
        ("voter", "n1 n2 n3 n4 n5"),
        ("others(pdu:p1)", "n3 n4 n5 n6 n7"),
        ("others(others(n1))", "n1"),
        ("one", "n1"),
        ("one(n6,n7)", "n6"),
        ("one(n7)", ""),
        ("follower", "n2"),
        ("follower(n4)", "n4"),
        ("minority(n2)", "n2 n3"),
        ("minority(n1,n2)", "n1 n2"),
        ("minority(n6)", "n2 n6"),
        ("majority(n6)", "n1 n2 n3 n6"),
        ("majority(n2)", "n1 n2 n3 n4"),
    ],
)
def test_a_target_means_these_nodes(text: str, nodes: str) -> None:
    assert " ".join(resolve(parse(text), Moment())) == nodes


def test_all_means_nodes_that_are_down_as_well() -> None:
    assert resolve(parse("all"), Moment())[-1] == "n7"


def test_nobody_is_struck_when_nobody_holds() -> None:
    assert resolve(parse("holder-of:mariadb"), Moment(holder=NO_NODE)) == ()


@pytest.mark.parametrize("leader", NODES[:5])
@pytest.mark.parametrize("inside", NODES[:6])
def test_a_minority_is_never_half_and_a_majority_always_more(leader: NodeId, inside: NodeId) -> None:
    moment = Moment(leader=leader)
    small, large = (resolve(parse(f"{kind}({inside})"), moment) for kind in ("minority", "majority"))
    assert inside in small
    assert inside in large
    assert 2 * len(small) < 6 < 2 * len(large)
    assert 2 * len([node for node in small if node in moment.voters()]) < 5
    assert 2 * len([node for node in large if node in moment.voters()]) > 5
    assert leader in large
    assert leader not in small or leader == inside


def test_one_is_drawn_among_the_nodes_that_are_up() -> None:
    assert {resolve(parse("one"), Moment(drawn=drawn))[0] for drawn in range(60)} == set(NODES[:6])


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "n1,,n2",
        "others(n1",
        "others)n1(",
        "all(n1)",
        "n1)",
        "who:n1",
        "x(n1)",
        "one(" * 50 + ")" * 50,
        "a" * 9_999,
    ],
)
def test_a_target_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n33", '"n33" is no node'),
        ("leeder", 'did you mean "leader"?'),
        ("holder-of:dns", '"dns" is no singleton'),
        ("rack:r9", '"r9" is no rack'),
        ("switch:", '"" is no switch'),
        ("others(minority(pdu:p8))", '"p8" is no PDU'),
    ],
)
def test_unknown_names_are_refused(text: str, words: str) -> None:
    rack, catalog = load_rack(ROOT / "racks/five.toml"), load_catalog(ROOT / "catalog/minimal.toml")
    problems = Problems("f.toml")
    check(text, rack, catalog, "fault[0].target", problems)
    assert len(problems.found) == 1
    assert words in problems.found[0]
    assert problems.found[0].startswith("f.toml: fault[0].target = ")
