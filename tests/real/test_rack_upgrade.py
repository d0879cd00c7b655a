"""``rack upgrade`` against a real node: what it refuses, and a record that operator and agents may both write."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.ids import ImageId, NodeId
from drivers.access import load_access
from drivers.init import prepare
from drivers.upgrade import begin
from drivers.zookeeper_operator import Operator
from tests.real.rack_on_loopback import UP_S_MAX, Rack, rack, wait_until
from tests.unit.made_rack import member_record

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("rack")]
NEW = ImageId("2" * 16)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A rack of one node, seeded; it was installed by hand."""
    made = Rack(tmp_path_factory.mktemp("rack"), nodes=1, subnet=44)
    prepare(made.plan)
    try:
        made.start(made.nodes[0])
        seed = ("init", "--seed-records", "--config", made.operator)
        wait_until(lambda: rack(*seed).returncode == 0, UP_S_MAX, "the first server takes records")
        wait_until(lambda: made.members() == made.nodes, UP_S_MAX, "it is a member")
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status",), "no upgrade was ever begun"),
        (("halt",), "no upgrade was ever begun"),
        (("resume",), "no upgrade was ever begun"),
        (("start", "--image", NEW), f"no boot server of this rack has image {NEW}"),
        (("start", "--image", "/nowhere"), "no such image"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(one: Rack, words: tuple[str, ...], said: str) -> None:
    done = rack("upgrade", *words, "--config", one.operator)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_upgrade_that_the_operator_begins_is_carried_on_by_an_agent(one: Rack) -> None:
    """Nobody runs an image here, so that its end is all there is to do: it is the agent that writes it."""
    access = load_access(Path(one.operator))
    with Operator(access.config) as operator:
        begin(operator, {NodeId("n1"): member_record("n1", image="1" * 16)}, NEW, 1)

    def state() -> str:
        shown = rack("upgrade", "status", "--json", "--config", one.operator)
        return str(json.loads(shown.stdout)["record"]["state"]) if shown.returncode == 0 else shown.stderr

    wait_until(lambda: state() == "done", UP_S_MAX, "the agent ends the upgrade")
    refused = rack("upgrade", "halt", "--config", one.operator)
    assert (refused.returncode, f"the upgrade to {NEW} is done" in refused.stderr) == (2, True)
    watched = rack("upgrade", "status", "--watch", "--config", one.operator)
    assert (watched.returncode, watched.stdout.splitlines()[0].endswith("done")) == (0, True)


def test_a_rack_rehearses_from_its_own_snapshot(one: Rack, tmp_path: Path) -> None:
    done = rack("upgrade", "rehearse", "--config", one.operator, "--out", str(tmp_path / "snap"))
    assert (tmp_path / "snap/upgrade/scenario.toml").is_file()
    assert "verdict" in done.stdout
    assert "Traceback" not in done.stderr
