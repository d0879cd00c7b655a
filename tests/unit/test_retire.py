"""What follows from a retirement: machine and certificates are refused, and OSDs go when nothing is lost."""

import msgspec
import pytest

from core.ids import DomainId, Guid, NodeId, RackId
from core.records import AnyRecord, Change, Lifecycle, MachineRecord, NodeRecord, machine_path, node_path
from drivers import retire
from drivers.ceph import Osd
from tests.unit.made_rack import node_record

N3, N4 = NodeId("n3"), NodeId("n4")
GUID = Guid("11111111-2222-3333-4444-555555555503")
MACHINE = MachineRecord(
    guid=GUID, bmc="10.98.1.3:623", rack=RackId("r1"), power_domain=DomainId("p1"), node=N3, number=3
)
ADDRESSES = {"10.98.0.3": N3, "10.98.0.4": N4}


class Desk:
    """Shared records; ``stale``: somebody else writes first."""

    def __init__(self, *records: tuple[str, AnyRecord], stale: bool = False) -> None:
        self.records = dict(records)
        self.stale = stale
        self.written: list[AnyRecord] = []

    def read(self, path: str) -> Change:
        return Change(path=path, zxid=1, version=5, data=self.records.get(path))

    def put(self, path: str, record: AnyRecord, version: int) -> bool:
        if self.stale or version != 5:
            return False
        self.written.append(record)
        self.records[path] = record
        return True


def desk(state: Lifecycle = Lifecycle.RETIRED, *, stale: bool = False, guid: Guid = GUID) -> Desk:
    node = msgspec.structs.replace(node_record("n3", state), guid=guid, certificates=("aa", "bb"))
    return Desk((node_path(N3), node), (machine_path(GUID), MACHINE), stale=stale)


class Storage:
    """Daemons in memory. ``holds``: how often a daemon is still needed before it is not."""

    def __init__(self, *osds: Osd, holds: int = 0) -> None:
        self.all = {osd.id: osd for osd in osds}
        self.holds = holds
        self.out: list[int] = []
        self.listed: tuple[str, ...] = ("n1", "n2", "n3")
        self.hosts = {osd.host for osd in osds}

    def osds(self) -> tuple[Osd, ...]:
        return tuple(self.all.values())

    def take_out(self, osds: list[int]) -> None:
        self.out += osds

    def needed(self, osd: int) -> str:
        self.holds -= 1
        return f"{self.holds + 1} placement groups are still on it" if self.holds >= 0 else ""

    def purge(self, osd: int) -> None:
        assert osd in self.out, "its data was copied first"
        del self.all[osd]

    def monitors(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.listed, tuple(one for one in self.listed if one != "n3")

    def remove_monitor(self, name: str) -> None:
        self.listed = tuple(one for one in self.listed if one != name)

    def forget_host(self, host: str) -> bool:
        gone = host in self.hosts and all(osd.host != host for osd in self.all.values())
        self.hosts -= {host} if gone else set()
        return gone


def osd(number: int, host: str, *, up: bool = False, address: str = "") -> Osd:
    return Osd(id=number, host=host, up=up, address=address or f"10.98.0.{host[1:]}")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look without waiting between."""
    monkeypatch.setattr(retire, "LOOK_S", 0.0)


def test_the_machine_and_every_certificate_that_is_known_are_refused() -> None:
    records, said = desk(), list[str]()
    assert retire.refuse(records, N3, ("cc", "aa"), said.append)
    node, machine = records.written
    assert isinstance(node, NodeRecord)
    assert node.certificates == ("aa", "bb", "cc")
    assert machine == msgspec.structs.replace(MACHINE, retired=True, certificates=("aa", "bb", "cc"))
    assert "is refused from now on, by whoever boots others and with 3 certificates" in said[0]
    assert retire.refuse(records, N3, ("cc",), said.append)
    assert len(records.written) == 2, "again changes nothing"


def test_a_node_of_the_inventory_without_a_machine_has_its_certificates_noted() -> None:
    for guid in ("", "another"):
        records, said = desk(guid=Guid(guid)), list[str]()
        assert retire.refuse(records, N3, ("cc",), said.append)
        (node,) = records.written
        assert isinstance(node, NodeRecord)
        assert node.certificates == ("aa", "bb", "cc")
        assert "no machine can be refused, only certificates" in said[0]


def test_who_is_not_retired_is_not_refused() -> None:
    for state in Lifecycle:
        if state is not Lifecycle.RETIRED:
            records = desk(state)
            assert not retire.refuse(records, N3, (), print)
            assert not records.written


def test_what_cannot_be_refused_is_said() -> None:
    said: list[str] = []
    assert not retire.refuse(desk(stale=True), N3, (), said.append)
    assert not retire.refuse(desk(stale=True), N3, ("cc",), said.append)
    assert said == [
        f"the record of machine {GUID} changed meanwhile; once more: rack retire n3",
        "the record of n3 changed meanwhile; once more: rack retire n3",
    ]


def test_the_nodes_own_osds_are_purged_when_nothing_is_lost_with_them() -> None:
    storage, said = Storage(osd(0, "n3"), osd(1, "n4"), osd(2, "n3"), holds=3), list[str]()
    assert retire.forget(storage, N3, ADDRESSES, 60_000, said.append)
    assert (storage.out, list(storage.all), storage.hosts) == ([0, 2], [1], {"n4"})
    assert said[0] == "out of the storage: osd.0, osd.2; their data is copied to others"
    assert said[-1] == "n3 is no host of the storage any more"
    assert storage.listed == ("n1", "n2")
    assert "the monitor of n3 is removed" in said
    assert {"osd.0 is purged", "osd.2 is purged"} < set(said)


def test_a_monitor_that_the_others_need_stays_and_it_says_so() -> None:
    storage, said = Storage(), list[str]()
    storage.listed = ("n3",)
    assert not retire.forget(storage, N3, ADDRESSES, 0, said.append)
    assert storage.listed == ("n3",)
    assert said[0] == "the monitor of n3 waits: 0 of 1 agree, too few without it"


def test_an_osd_that_runs_or_is_needed_stays_and_it_says_so() -> None:
    storage, said = Storage(osd(0, "n3", up=True), osd(2, "n3"), holds=1_000_000), list[str]()
    assert not retire.forget(storage, N3, ADDRESSES, 0, said.append)
    assert list(storage.all) == [0, 2]
    assert "osd.0 waits: it is up: switch the machine off" in said
    assert any(text.startswith("osd.2 waits: ") and "placement groups" in text for text in said)
    assert said[-1].startswith("not done yet")


def test_an_osd_that_was_moved_to_another_node_stays() -> None:
    storage, said = Storage(osd(0, "n3", address="10.98.0.4"), osd(2, "n3")), list[str]()
    assert retire.forget(storage, N3, ADDRESSES, 0, said.append)
    assert (storage.out, list(storage.all)) == ([2], [0])
    assert said[0] == "osd.0 is listed under n3 but runs on n4: left alone"


def test_a_node_without_osds_leaves_the_storage_as_it_is() -> None:
    storage = Storage(osd(1, "n4"))
    assert retire.forget(storage, N3, ADDRESSES, 0, print)
    assert (storage.out, storage.hosts) == ([], {"n4"})
