"""What one machine shows of itself: frozen, for invariants, traces and people."""

import msgspec

from core.ids import Epoch, NodeId, ServiceName, SessionId
from core.records import Instance, Lifecycle


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """One service as this node runs (or tries to run) it.

    ``state`` is a state of the service's table (``core.singleton.TRANSITIONS`` or ``core.everywhere.TRANSITIONS``).
    ``serving``: the address is announced and the service not suspended. Times are the node's clock; -1 for never.
    """

    name: ServiceName
    state: str
    epoch: Epoch = Epoch(0)
    instance: Instance | None = None
    recorded: bool = False
    serving: bool = False
    coordination_asked_ms: int = -1
    storage_asked_ms: int = -1
    fenced_at_ms: int = -1
    admit_at_ms: int = -1
    unfenced: tuple[Instance, ...] = ()


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. ``pending`` says in words what it waits for and why, one sentence each.

    ``refusals``: who was refused a boot or a certificate lately, newest last, one sentence each.
    """

    node: NodeId
    at_ms: int
    session: SessionId
    joined: bool
    lifecycle: Lifecycle
    members: int
    brake: bool
    services: tuple[ServiceView, ...]
    wards: tuple[NodeId, ...]
    pending: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
