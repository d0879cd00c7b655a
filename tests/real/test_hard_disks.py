"""Hard days of disks, on real servers: a voter's data lost, the storage full, no room for the journal."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.ids import NodeId
from drivers.lab.fault import Strike
from drivers.zookeeper import Brief
from tests.real.lab_rack import HardLab, hard_lab

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("lab")]

BACK_S_MAX = 90.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HardLab]:
    with hard_lab("mxdisk", Path("/var/lib/moxie-lab-disks"), tmp_path_factory.mktemp("disks")) as made:
        yield made


@pytest.fixture(autouse=True)
def _settled(lab: HardLab) -> None:
    lab.settled()


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_a_voter_that_lost_its_data_comes_back_with_the_quorums(lab: HardLab, leads: bool) -> None:
    leader = lab.rack.leader()
    node = leader if leads else next(node for node in lab.nodes if node != leader)
    data = lab.home(node) / "state" / "zookeeper" / "data"
    strike, voters = Strike("lost-data"), lab.rack.voters()
    with lab.clients() as seen:
        lab.rack.kill_server(strike, node)
        lab.until(lambda: not lab.server(node), 10, "the server is gone")
        shutil.rmtree(data)
        strike.heal()
        lab.until(lambda: mode(lab, node) == "follower", BACK_S_MAX, f"{node} follows")
    assert lab.rack.voters() == voters
    assert (data / "myid").exists()
    assert [op for op in seen.ops if op.outcome != "ok"] == []
    assert seen.unsafe() == []
    assert [mode(lab, other) for other in lab.nodes].count("leader") == 1
    assert tree(lab, node) == tree(lab, lab.rack.leader())


def mode(lab: HardLab, node: NodeId) -> str:
    return lab.rack.observer.state().servers[node].mode


def tree(lab: HardLab, node: NodeId) -> dict[str, bytes]:
    """The shared records as one server has them."""
