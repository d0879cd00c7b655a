"""What a node has of the storage: its files, its daemons, and what an answer of the storage means."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.ids import DomainId, Guid, NodeId, RackId
from core.records import MachineRecord
from drivers import ceph_daemons
from drivers.ceph_cluster import CephBroken
from drivers.ceph_daemons import Keeper, Processes, Units, find
from drivers.ceph_growth import Cluster, Pool
from drivers.ceph_look import Seen, look
from drivers.ceph_parts import Parts, cannot, keep_monitors
from drivers.ceph_service import Pauses, gone
from drivers.roster import FILE, encode
from drivers.status_storage import storage_lines

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
FSID = "5d1a5f8e-0000-4000-8000-000000000001"
MON_HOST = "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]"


def seen(**osds: str) -> Seen:
    cluster = Cluster(leader=N1, monitors=(N1,), quorum=(N1,))
    return Seen(
        cluster=cluster, fsid=FSID, mon_host=MON_HOST, osds={int(name[3:]): unique for name, unique in osds.items()}
    )


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """The files of n2, begun."""
    parts = Parts(tmp_path / "ceph", N2, "10.0.0.2")
    parts.begin(seen())
    return parts


def made(parts: Parts, name: str, command: str) -> None:
    (parts.root / "daemons" / name).write_text(f'COMMAND="{command}"\n')


def test_a_folder_is_begun_once_and_belongs_to_one_storage(parts: Parts) -> None:
    assert parts.fsid == FSID
    text = parts.conf.read_text()
    assert f"mon_host = {MON_HOST}\n" in text
    assert f"osd_data = {parts.root}/$name\n" in text
    parts.conf.write_text(text + "# by hand\n")
    parts.begin(seen())
    assert parts.conf.read_text().endswith("# by hand\n")
    assert Parts(parts.root.parent / "none", N2, "10.0.0.2").fsid == ""


def test_daemons_are_listed_in_the_order_of_starting_and_nothing_else_is_run(parts: Parts) -> None:
    for name in ("osd.1", "mgr.n2", "mon.n2"):
        made(parts, name, f"ceph-{name[:3]} -i {name[4:]} -f")
    made(parts, "rm.all", "rm -rf /")
    (parts.root / "daemons" / "osd.7").write_text("half a li")
    assert list(parts.daemons()) == ["mon.n2", "mgr.n2", "osd.1"]
    assert parts.daemons()["osd.1"] == ("ceph-osd", "-i", "1", "-f")
    assert parts.osd() == 1
    assert parts.has("mon")
    parts.drop("osd.1")
    assert parts.osd() is None


@pytest.mark.parametrize(
    ("there", "forgotten"), [({"osd1": "aaa"}, False), ({"osd1": "bbb"}, True), ({}, True), ({"osd2": "aaa"}, True)]
)
def test_an_osd_is_forgotten_when_its_number_is_nobodys_or_anothers(
    parts: Parts, there: dict[str, str], forgotten: bool
) -> None:
    made(parts, "osd.1", "ceph-osd -i 1")
    (parts.root / "osd.1").mkdir()
    (parts.root / "osd.1/fsid").write_text("aaa\n")
    assert parts.forgotten(seen(**there)) is forgotten
    other = Seen(cluster=seen().cluster, fsid="another", mon_host="", osds={})
    assert not parts.forgotten(other), "another storage knows nothing of it"


def test_a_configuration_follows_the_monitors_and_is_left_alone_when_they_stay(tmp_path: Path) -> None:
    conf = tmp_path / "ceph.conf"
    conf.write_text("[global]\nmon_host = [v2:10.0.0.1:3300]\nkeyring = x\n")
    assert keep_monitors(conf, "[v2:10.0.0.1:3300],[v2:10.0.0.2:3300]")
    assert conf.read_text() == "[global]\nmon_host = [v2:10.0.0.1:3300],[v2:10.0.0.2:3300]\nkeyring = x\n"
    assert not keep_monitors(conf, "[v2:10.0.0.1:3300],[v2:10.0.0.2:3300]")


def test_a_node_says_why_it_brings_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.ceph_parts.PROGRAMS", ("sh",))
    assert cannot(tmp_path / "ceph", in_memory=False) == ""
    assert "is in memory (a disk with a partition moxie-state is needed)" in cannot(tmp_path / "ceph", in_memory=True)
    monkeypatch.setattr("drivers.ceph_parts.DISK_BYTES_MIN", 1 << 60)
    assert "MiB are free in" in cannot(tmp_path / "ceph", in_memory=False)
    monkeypatch.setattr("drivers.ceph_parts.PROGRAMS", ("ceph-nothing",))
    assert "ceph-nothing is not installed" in cannot(tmp_path / "ceph", in_memory=False)


# -- daemons -----------------------------------------------------------------------------------------------------------


def test_a_process_is_found_again_by_whoever_comes_next_and_is_ended_by_its_id(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import time; time.sleep(600)", str(tmp_path))
    runner = Processes(tmp_path)
    assert not runner.running("osd.1", argv)
    runner.start("osd.1", argv)
    pid = find(argv)
    assert pid != 0
    assert os.getsid(pid) == pid, "it has a session of its own"
    assert Processes(tmp_path).running("osd.1", argv)
    runner.stop("osd.1", argv)
    assert find(argv) == 0
    runner.stop("osd.1", argv)


def test_what_cannot_be_started_is_said_and_not_tried_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000_000]
    monkeypatch.setattr(ceph_daemons, "now_ms", lambda: now[0])
    keeper = Keeper(Processes(tmp_path))
    daemons = {"osd.1": ("/nothing/here",)}
    tries = []
    for _ in range(200):
        (said,) = keeper.keep(daemons)
        tries.append("does not stay up" not in said)
        now[0] += 1_000
    assert tries[0]
    assert 6 < sum(tries) < 15, "the pauses grow to half a minute"
    assert any(tries[150:]), "and it never gives up"


def test_units_are_started_whatever_went_wrong_before(tmp_path: Path) -> None:
    log, control = tmp_path / "log", tmp_path / "systemctl"
    control.write_text(f'#!/bin/sh\necho "$@" >>{log}\n[ "$1" = show ] && echo failed\n[ "$1" != stop ]\n')
    control.chmod(0o755)
    units = Units((str(control),))
    assert not units.running("osd.1", ())
    units.start("osd.1", ())
    with pytest.raises(CephBroken, match=r"osd\.1"):
        units.stop("osd.1", ())
    assert log.read_text().splitlines() == [
        "show --property=ActiveState --value moxie-daemon@osd.1.service",
        "reset-failed moxie-daemon@osd.1.service",
        "--no-block start moxie-daemon@osd.1.service",
        "stop moxie-daemon@osd.1.service",
    ]
    with pytest.raises(CephBroken):
        Units(("/nothing/here",)).running("osd.1", ())


def test_systemd_itself_finds_nothing_wrong_with_the_names_of_units() -> None:
    done = subprocess.run(("systemd-escape", "osd.1"), capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "osd.1"


def test_what_failed_has_longer_and_longer_pauses_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr("drivers.ceph_service.now_ms", lambda: now[0])
    pauses, waited = Pauses(), []
    for _ in range(6):
        assert pauses.over("AddOsd")
        pauses.note("AddOsd", failed=True)
        assert pauses.over("SetSize"), "others go on"
        began = now[0]
        while not pauses.over("AddOsd"):
            now[0] += 1_000
        waited.append((now[0] - began) // 1_000)
    assert waited == [5, 10, 20, 40, 60, 60]
    pauses.note("AddOsd", failed=False)
    pauses.note("AddOsd", failed=True)
    now[0] += 5_000
    assert pauses.over("AddOsd")


# -- looking -----------------------------------------------------------------------------------------------------------

GROUPS = [
    {"pgid": "1.0", "state": "active+clean", "acting": [0, 1]},
    {"pgid": "1.1", "state": "active+clean", "acting": [1]},  # figures of before the pool got its second copy
    {"pgid": "1.2", "state": "active+undersized", "acting": [0, 1]},
    {"pgid": "11.0", "state": "active+clean", "acting": [0, 1]},
]
POOL: dict[str, Any] = {"pool": 1, "type": 1, "pool_name": "rbd", "size": 2, "min_size": 1, "pg_num": 3}


class Answers:
    """A storage that answers as Ceph 16.2 does."""

    def __init__(self, **changes: Any) -> None:
        self.said: dict[str, Any] = {
            "quorum_status": {
                "quorum_names": ["n1"],
                "quorum_leader_name": "n1",
                "monmap": {
                    "fsid": FSID,
                    "mons": [
                        {"name": "n2", "public_addrs": {"addrvec": [{"type": "v2", "addr": "10.0.0.2:3300"}]}},
                        {
                            "name": "n1",
                            "public_addrs": {
                                "addrvec": [
                                    {"type": "v2", "addr": "10.0.0.1:3300"},
                                    {"type": "v1", "addr": "10.0.0.1:6789"},
                                ]
                            },
                        },
                    ],
                },
            },
            "osd dump": {
                "osds": [
                    {"osd": 0, "up": 1, "in": 1, "uuid": "u0"},
                    {"osd": 1, "up": 1, "in": 0, "uuid": "u1"},
                    {"osd": 2, "up": 1, "in": 1, "uuid": "u2"},
                ],
                "pools": [POOL, {**POOL, "pool": 11, "type": 3, "pool_name": "coded"}],
            },
            "mgr dump": {"active_name": "x", "standbys": [{"name": "n2"}]},
            "osd tree": {
                "nodes": [
                    {"type": "host", "name": "n1", "children": [0]},
                    {"type": "host", "name": "n2", "children": [1]},
                    {"type": "host", "name": "n3", "children": [2]},
                    {"type": "osd", "name": "osd.0"},
                ]
            },
            "pg dump": {"pg_stats": GROUPS},
            **changes,
        }

    def command(self, prefix: str, **_: object) -> Any:
        return self.said[prefix]


def test_one_look_tells_all_and_old_figures_do_not_count() -> None:
    said = look(Answers(), (N1, N2, N3), ())  # type: ignore[arg-type]  # as much of it as is asked
    assert said.mon_host == "[v2:10.0.0.1:3300,v1:10.0.0.1:6789],[v2:10.0.0.2:3300]"
    assert (said.cluster.hosts, said.cluster.monitors, said.cluster.quorum) == ((N1, N3), (N1, N2), (N1,))
    assert said.cluster.managers == ("n2", "x")
    assert said.cluster.pools == (Pool(name="rbd", size=2, min_size=1, groups=3, whole=0),), "none is asked: goal of 2"
    third = {**POOL, "size": 1}
    dump = {**Answers().said["osd dump"], "pools": [third]}
    assert look(Answers(**{"osd dump": dump}), (), ()).cluster.pools[0].whole == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", [{}, [], None, {"quorum_names": 5}, "text"])
def test_an_answer_that_is_none_is_a_failure_and_no_traceback(broken: object) -> None:
    from drivers.ceph import CephError

    with pytest.raises(CephError, match="not understood"):
        look(Answers(quorum_status=broken), (), ())  # type: ignore[arg-type]


def test_a_node_is_gone_only_while_nobody_has_followed_it(tmp_path: Path) -> None:
    def machine(number: int, node: NodeId, retired: bool) -> MachineRecord:
        return MachineRecord(
            guid=Guid(f"g{number}"),
            bmc=f"10.0.1.{number}:623",
            rack=RackId("r1"),
            power_domain=DomainId("p1"),
            node=node,
            number=number,
            retired=retired,
        )

    assert gone(tmp_path) == ()
    (tmp_path / FILE).write_bytes(encode([machine(2, N2, True), machine(3, N3, True), machine(4, N3, False)]))
    assert gone(tmp_path) == (N2,)


def test_status_says_how_far_the_storage_is_and_what_it_waits_for() -> None:
    cluster = Cluster(
        leader=N1,
        hosts=(N1,),
        monitors=(N1,),
        quorum=(N1,),
        voters=(N1, N2, N3),
        pools=(Pool(name="rbd", size=1, min_size=1, groups=8, whole=8),),
    )
    assert storage_lines(cluster) == (
        "1 of 1 monitor agree: n1",
        "disks on 1 node: n1",
        "pool rbd: 1 copy, a write needs 1",
        "1 monitor: waits for the disks of n2 n3 to have 3",
        "pool rbd: 1 copy: waits for 2 more nodes with a disk to have 3",
    )
