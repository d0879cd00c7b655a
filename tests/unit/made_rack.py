"""Small racks on disk and rack states made from records, for tests of the command ``rack``."""

from collections.abc import Mapping
from pathlib import Path

from core.ids import BootId, DomainId, Epoch, NodeId, RackId, ServiceName, SessionId, VolumeName
from core.records import (
    CLUSTER,
    ENSEMBLE,
    AnyRecord,
    Change,
    ClusterRecord,
    DomainRecord,
    EnsembleRecord,
    Instance,
    LeaseRecord,
    Lifecycle,
    MemberRecord,
    NodeRecord,
    PowerRecord,
    Slot,
    TermRecord,
    domain_path,
    lease_path,
    member_path,
    node_path,
    power_path,
    term_path,
)
from core.specs import ServiceSpec
from core.view import NodeView, ServiceView
from drivers.init import Plan
from drivers.rack_state import Heard, RackState, Server

NODES = tuple(NodeId(f"n{number}") for number in range(1, 6))
R1, P1 = RackId("r1"), DomainId("p1")
DB, WEB, NTP = ServiceName("mariadb"), ServiceName("web"), ServiceName("ntp")
SPECS = (
    ServiceSpec(name=NTP, run="everywhere"),
    ServiceSpec(name=DB, run="singleton", volume=VolumeName("mariadb"), address="10.0.0.10"),
    ServiceSpec(name=WEB, run="count", count=3),
)
CATALOG = """name = "small"
[[service]]
name = "ntp"
run = "everywhere"
[[service]]
name = "cron"
run = "singleton"
"""


def plan(folder: Path, nodes: int = 3, **changes: object) -> Plan:
    """A plan for a rack whose files are written into the folder; the BMCs' passwords too."""
    text = ""
    for number in range(1, nodes + 1):
        secret = folder / f"bmc{number}.password"
        secret.write_text(f"hunter-{number}-secret\n", encoding="utf-8")
        secret.chmod(0o600)
        text += f'[[node]]\nid = "n{number}"\nnumber = {number}\naddress = "10.9.0.{number}"\n'
        text += f'[node.bmc]\ndriver = "ipmi"\naddress = "10.8.0.{number}"\npassword_file = "{secret.name}"\n'
    (folder / "inventory.toml").write_text(text, encoding="utf-8")
    catalog = folder / "catalog.toml"
    if not catalog.exists():
        catalog.write_text(CATALOG, encoding="utf-8")
    fields: dict[str, object] = {
        "inventory": folder / "inventory.toml",
        "catalog": catalog,
        "out": folder / "rack",
        "state_dir": folder / "state" / "{node}",
        "run_dir": folder / "run" / "{node}",
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def instance(node: str, epoch: int) -> Instance:
    """An opening of the database's volume."""
    return Instance(
        node=NodeId(node), boot_id=BootId(f"boot-{node}"), epoch=Epoch(epoch), address=f"10.0.0.1:0/{epoch}"
    )


def node_record(node: str, state: Lifecycle, reason: str = "") -> NodeRecord:
    """A node's lifecycle record."""
    return NodeRecord(node=NodeId(node), rack=R1, power_domain=P1, state=state, reason=reason)


def member_record(node: str, **changes: object) -> MemberRecord:
    """A node's presence."""
    fields: dict[str, object] = {
        "node": NodeId(node),
        "session": SessionId(0x1000 + int(node[1:])),
        "boot_id": BootId(f"boot-{node}"),
        "rack": R1,
        "power_domain": P1,
        "weight": 100,
        "cores": 8,
        "memory_bytes": 1 << 34,
        "server": True,
    }
    return MemberRecord(**{**fields, **changes})  # type: ignore[arg-type]


def records() -> dict[str, AnyRecord]:
    """Five nodes: n3 is lost and about to be power-fenced; n4 took the database over from it."""
    found: dict[str, AnyRecord] = {
        CLUSTER: ClusterRecord(ensemble_size=5, joining=(NodeId("n4"), NodeId("n5"))),
        ENSEMBLE: EnsembleRecord(config=0x100000005, voters=NODES[:3]),
    }
    for node in NODES:
        lost = node == "n3"
        state = Lifecycle.LOST if lost else Lifecycle.JOINED
        found[node_path(node)] = node_record(node, state, "its session ended" if lost else "")
        if not lost:
            unfit = (DB,) if node == "n2" else ()
            found[member_path(R1, node)] = member_record(node, unfit=unfit)
    found[term_path(DB)] = TermRecord(
        epoch=Epoch(7),
        holder=NodeId("n4"),
        identities=(instance("n4", 7),),
        unfenced=(instance("n3", 6),),
        blocked=(instance("n2", 5),),
        serving=True,
    )
    found[lease_path(DB)] = LeaseRecord(node=NodeId("n4"), session=SessionId(0x1004), epoch=Epoch(7))
    found[power_path(NodeId("n3"))] = PowerRecord(generation=3, action="cycle", by=NodeId("n1"))
    found[domain_path(P1)] = DomainRecord(slots=(Slot(node=NodeId("n3"), generation=3, fence=True),))
    return found


def view(node: str, services: tuple[ServiceView, ...] = (), **changes: object) -> NodeView:
    """What a node's agent shows."""
    fields: dict[str, object] = {
        "node": NodeId(node),
        "at_ms": 100_000,
        "session": SessionId(1),
        "joined": True,
        "lifecycle": Lifecycle.JOINED,
        "members": 4,
        "brake": False,
        "services": services,
        "wards": (),
    }
    return NodeView(**{**fields, **changes})  # type: ignore[arg-type]


def agents() -> dict[NodeId, Heard]:
    """What the five agents answer: n3 nothing, n5 nothing although it is a member, n4 serves for 42 seconds."""
    ntp = ServiceView(name=NTP, state="running", serving=True)
    web = ServiceView(name=WEB, state="running", serving=True)
    db = ServiceView(name=DB, state="serving", epoch=Epoch(7), serving=True, admit_at_ms=58_000)
    waiting = ("mariadb epoch 7 on n4 waits for the storage to confirm a fence",)
    return {
        NodeId("n1"): Heard(view=view("n1", (ntp, web), brake=True), ahead_ms=0),
        NodeId("n2"): Heard(view=view("n2", (ntp,)), ahead_ms=-3_000),
        NodeId("n3"): Heard(error="no answer in time (10.0.0.3:9464)"),
        NodeId("n4"): Heard(view=view("n4", (ntp, db), pending=waiting), ahead_ms=0),
        NodeId("n5"): Heard(error="connection refused (10.0.0.5:9464)"),
    }


def servers() -> dict[NodeId, Server]:
    """The three voters' answers: the second leads, the third is gone."""
    up = {"version": "3.8.0", "zxid": "0x1", "connections": 2}
    return {
        NodeId("n1"): Server(mode="follower", **up),  # type: ignore[arg-type]
        NodeId("n2"): Server(mode="leader", **up),  # type: ignore[arg-type]
        NodeId("n3"): Server(error="no answer in time"),
        NodeId("n4"): Server(error="connection refused"),
        NodeId("n5"): Server(error="connection refused"),
    }


def rack_state(changed: Mapping[str, AnyRecord | None] | None = None) -> RackState:
    """The whole rack, with some records changed or taken away."""
    found = {**records(), **(changed or {})}
    changes = {path: Change(path=path, zxid=1, data=record) for path, record in found.items() if record is not None}
    return RackState(
        at="2030-01-01T00:00:00Z", nodes=NODES, services=SPECS, records=changes, agents=agents(), servers=servers()
    )
