"""One service on this node, as its supervisor keeps it."""

from typing import Literal

import msgspec

from core.ids import Epoch, OpId, ServiceName
from core.ports import Emit
from core.records import Instance
from drivers.health import Vigil
from drivers.loop import Timer
from drivers.workload import Task
from formats.catalog import CatalogService

UnitState = Literal["starting", "running", "exited", "stopping"]


class Unit(msgspec.Struct, kw_only=True, eq=False):
    """One service on this node.

    ``attempt`` counts changes of state, so that what was begun for an earlier one is ignored. ``waiting``: the ops to
    answer when the present start or stop ends. ``armed``: its right to serve has not ended; ``until_ms`` is when it
    does; ``lapsed``: it had one, and that ended. ``killed``: something of it did not stop by itself; ``discarded``:
    what its volume had not written was thrown away.
    """

    service: CatalogService
    epoch: Epoch
    instance: Instance | None
    state: UnitState = "starting"
    attempt: int = 0
    waiting: list[tuple[OpId, Emit]] = []
    task: Task | None = None
    mount: str = ""
    killed: bool = False
    discarded: bool = False
    suspended: bool = False
    announced: bool = False
    armed: bool = False
    lapsed: bool = False
    until_ms: int = 0
    deadline: Timer | None = None
    vigil: Vigil | None = None
    failures: int = 0
    problem: str = ""

    @property
    def name(self) -> ServiceName:
        return self.service.spec.name

    @property
    def address(self) -> str:
        return self.service.spec.address
