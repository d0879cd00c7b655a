"""Hard days of disks, on real servers: a voter's data lost, the storage full, no room for the journal."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from core.ids import NodeId
from core.records import TERMS
from drivers.ceph import Ceph
from drivers.check_ceph import check_ceph
from drivers.clock import now_ms
from drivers.config import load_config
from drivers.lab.fault import Strike
from drivers.zookeeper import Brief
from drivers.zookeeper_codec import decode
from tests.real.lab_rack import HardLab, Seen, hard_lab

pytestmark = [pytest.mark.real, pytest.mark.hard, pytest.mark.slow, pytest.mark.xdist_group("lab")]

BACK_S_MAX = 90.0
FULL_S_MAX = 30.0
RATIOS = (("nearfull", 0.85), ("backfillfull", 0.90), ("full", 0.95))
NO_ROOM = 0.0001
JOURNAL_MIB = 8
REMARK = "cannot write to the storage"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HardLab]:
    with hard_lab("mxdisk", Path("/var/lib/moxie-lab-disks"), tmp_path_factory.mktemp("disks")) as made:
        yield made


@pytest.fixture(autouse=True)
def _settled(lab: HardLab) -> None:
    lab.settled()


def nothing_failed(seen: Seen) -> None:
    assert seen.failed() == []
    assert seen.unsafe() == []


# -- a voter without its data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["zookeeper/data", "zookeeper"], ids=["data", "everything"])
@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_a_voter_that_lost_its_disk_comes_back_with_the_quorums_data(lab: HardLab, leads: bool, lost: str) -> None:
    leader, voters = lab.rack.leader(), lab.rack.voters()
    node = leader if leads else next(node for node in lab.nodes if node != leader)
    strike = Strike("lost-data")
    with lab.clients() as seen:
        lab.rack.kill_server(strike, node)
        lab.until(lambda: not lab.server(node), 10, "the server is gone")
        shutil.rmtree(lab.home(node) / "state" / lost)
        strike.heal()
        begun_ms = now_ms()
        lab.until(lambda: mode(lab, node) == "follower", BACK_S_MAX, f"{node} follows")
        print(f"{lost} of the {'leader' if leads else 'follower'} {node} was lost: back after {now_ms() - begun_ms} ms")
    nothing_failed(seen)
    assert lab.rack.voters() == voters
    lab.until(lambda: [mode(lab, other) for other in lab.nodes].count("leader") == 1, BACK_S_MAX, "one server leads")
    lab.until(lambda: terms(lab, node) == terms(lab, lab.rack.leader()), BACK_S_MAX, f"{node} has what the leader has")


def mode(lab: HardLab, node: NodeId) -> str:
    """What the server of a node says that it is."""
    return lab.rack.observer.state().servers[node].mode


def terms(lab: HardLab, node: NodeId) -> dict[str, object]:
    """The terms as the server of one node has them."""
    access = lab.rack.observer.access
    with Brief([access.servers()[node]], access.config.tables.tls, 5_000) as brief:
        _, names = brief.children(TERMS)
        assert names
        found = {name: brief.get(f"{TERMS}/{name}")[1] for name in names}
    return {name: (seen.version, decode(seen.data or b"")) for name, seen in found.items() if seen is not None}


# -- full disks --------------------------------------------------------------------------------------------------------


def test_a_full_storage_stalls_writes_and_loses_none_and_everybody_says_so(lab: HardLab) -> None:
    term = lab.term()
    config = load_config(lab.folder(lab.holder()) / "node.toml")
    assert config.tables.ceph is not None
    with lab.clients() as seen, full_storage(lab) as begun_ms:
        lab.until(lambda: stalled(seen, begun_ms), FULL_S_MAX, "writes stall")
        lab.until(
            lambda: lab.status().count("cannot write to the storage") == len(lab.nodes), FULL_S_MAX, "they say so"
        )
        said = [finding for finding in check_ceph(config.tables.ceph, config.timing) if finding.severity == "error"]
        assert any("full" in finding.measured for finding in said)
    with lab.clients() as after:
        lab.await_answers(after)
    assert seen.unsafe() == []
    assert lab.term() == term, "nobody else could write either"
    nothing_failed(after)
    lab.until(lambda: REMARK not in lab.status(), FULL_S_MAX, "they say that it is over")


def stalled(seen: Seen, since_ms: int) -> bool:
    """Whether a write that was sent since then was given up."""
    return any(op.kind == "write" and op.outcome != "ok" and op.invoked_ms >= since_ms for op in seen.so_far())


@contextmanager
def full_storage(lab: HardLab) -> Iterator[int]:
    """Have the storage take itself for full; when that began."""
    with closing(Ceph(lab.ceph_table())) as ceph:
        ceph.connect()
        try:
            for name, _ in RATIOS:
                ceph.command(f"osd set-{name}-ratio", ratio=NO_ROOM)
            yield now_ms()
        finally:
            for name, ratio in reversed(RATIOS):
                ceph.command(f"osd set-{name}-ratio", ratio=ratio)


def test_an_agent_whose_journal_has_no_room_gives_everything_away_cleanly_and_comes_back(lab: HardLab) -> None:
    node, epoch = lab.holder(), lab.term().epoch
    lab.until(lambda: lab.spare(node), 30, "a substitute waits")
    with small_journal(lab, node) as folder:
        with lab.clients() as seen:
            since_ms = now_ms()
            lab.on(node, "sh", "-c", f"cat /dev/zero >{folder}/junk 2>/dev/null || true")
            lab.until(lambda: lab.said(node, "agent_steps_down", since_ms), FULL_S_MAX, "it steps down")
            lab.until(lambda: lab.holder() != node and lab.term().serving, BACK_S_MAX, "another one holds it")
            lab.await_answers(seen)
            assert "the agent stepped down: the journal" in lab.status()
        (line, *_) = lab.said(node, "agent_steps_down", since_ms)
        assert "no space left on device" in line["why"]
        assert "handed_over" in {note["note"] for note in lab.said(node, "note", since_ms)}
        assert seen.unsafe() == []
        assert (lab.term().epoch, lab.term().unfenced) == (epoch + 1, ())
        print(f"no room for the journal: no answer for {seen.gap_ms()} ms")
        lab.on(node, "rm", f"{folder}/junk")
        begun_ms = now_ms()
        lab.until(lambda: lab.agent(node) and node in lab.members(), BACK_S_MAX, f"{node} is back")
        lab.until(lambda: "stepped down" not in lab.status(), BACK_S_MAX, "it has nothing more to say")
        print(f"back {now_ms() - begun_ms} ms after there was room again")


@contextmanager
def small_journal(lab: HardLab, node: NodeId) -> Iterator[Path]:
    """Have a node keep its journal on a small file system of its own."""
    folder = lab.home(node) / "state" / "journal"
    lab.on(node, "mount", "-t", "tmpfs", "-o", f"size={JOURNAL_MIB}m", "tmpfs", str(folder))
    try:
        lab.restart_agent(node)
        yield folder
    finally:
        lab.on(node, "umount", "--lazy", str(folder))
        os.kill(lab.agent(node), signal.SIGTERM)  # the next one writes where the others did
