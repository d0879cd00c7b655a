"""See ``ServiceNeverHealthy``."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from core.ids import NO_NODE, ServiceName
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems, one_of
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ServiceNeverHealthy(Fault, frozen=True, kw_only=True):
    """A service does not become healthy when it is started on the nodes of the target (everywhere without a target).

    Copies that run already go on.
    """

    TARGET_NEEDED: ClassVar[bool] = False

    service: str

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        names = [str(name) for name in catalog.names]
        if self.service not in names:
            problems.add(f"{key}.service", self.service, f"no such service; allowed: {one_of(names)}", names)

    def apply(self, world: "World", strike: Strike) -> None:
        service = ServiceName(self.service)
        for node in strike.nodes if self.target else (NO_NODE,):
            world.sick.add(service, node)
            strike.undo(partial(world.sick.remove, service, node))

    def text(self, strike: Strike) -> str:
        return f"{self.service} on {', '.join(strike.nodes) or 'every node'}"
