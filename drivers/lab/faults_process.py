"""Faults of processes: agents, services and whole nodes killed or stopped, services that do not get healthy."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from core.ids import NO_NODE, NodeId, ServiceName
from core.records import PowerRecord
from drivers.lab.fault import LabFault, Strike
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.load import Ms
from formats.problems import Problems, one_of

if TYPE_CHECKING:
    from drivers.lab.rack import LabRack

LOOK_MS = 50
ORDER_LOOK_MS = 10


class AgentCrash(LabFault, frozen=True, kw_only=True):
    """The agent process of a node is killed; without ``restarts`` its supervisor may not start it again."""

    restarts: bool = True

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            if not self.restarts:
                rack.hold(strike, node, "agent")
            rack.kill_agent(node)


class ProcessPause(LabFault, frozen=True, kw_only=True):
    """Every process of a node is stopped and its packets vanish, or only its agent is stopped.

    ``what``: "node" or "agent".
    """

    what: Literal["node", "agent"] = "node"

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            if self.what == "node":
                rack.freeze_node(strike, node)
            else:
                rack.pause_agent(strike, node)


class StewardPause(LabFault, frozen=True, kw_only=True):
    """The agent of the target's steward is stopped until the fault is healed.

    ``when``: "caring", ``delay_ms`` after somebody cares for the target; "ordering", when a power order for the target
    has been committed (here: as soon as that is seen, so perhaps after it was sent).
    """

    when: Literal["caring", "ordering"] = "caring"
    delay_ms: Ms = 100

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            if self.when == "ordering":
                _watch(rack, strike, node, rack.power_record(node).generation)
            else:
                _look(rack, strike, node, self.delay_ms)

    def text(self, strike: Strike) -> str:
        return f"steward of {', '.join(strike.nodes)}"


def _look(rack: "LabRack", strike: Strike, ward: NodeId, delay_ms: int) -> None:
    if strike.healed:
        return
    steward = rack.steward_of(ward)
    if steward == NO_NODE:
        rack.timeline.after(LOOK_MS, partial(_look, rack, strike, ward, delay_ms))
    else:
        rack.timeline.after(delay_ms, partial(_pause, rack, strike, steward))


def _watch(rack: "LabRack", strike: Strike, ward: NodeId, before: int) -> None:
    if strike.healed:
        return
    order: PowerRecord = rack.power_record(ward)
    if order.generation > before:
        _pause(rack, strike, order.by)
    else:
        rack.timeline.after(ORDER_LOOK_MS, partial(_watch, rack, strike, ward, before))


def _pause(rack: "LabRack", strike: Strike, steward: NodeId) -> None:
    if not strike.healed and steward != NO_NODE:
        rack.pause_agent(strike, steward)


class _OfService(LabFault, frozen=True, kw_only=True):
    """A fault of one service."""

    service: str

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        names = [str(name) for name in catalog.names]
        if self.service not in names:
            problems.add(f"{key}.service", self.service, f"no such service; allowed: {one_of(names)}", names)

    def text(self, strike: Strike) -> str:
        return f"{self.service} on {', '.join(strike.nodes) or 'every node'}"


class ServiceCrash(_OfService, frozen=True, kw_only=True):
    """The processes of a service are killed on the nodes of the target."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.kill_service(node, ServiceName(self.service))


class ServiceNeverHealthy(_OfService, frozen=True, kw_only=True):
    """A service that is started on the nodes of the target (everywhere without one) listens to nobody.

    Copies that run already go on.
    """

    TARGET_NEEDED: ClassVar[bool] = False

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        folder = rack.layout.folder / "sick"
        folder.mkdir(exist_ok=True)
        for name in [f"{self.service}.{node}" for node in strike.nodes] if self.target else [self.service]:
            (folder / name).touch()
            strike.undo(partial((folder / name).unlink, missing_ok=True))
