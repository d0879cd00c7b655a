"""See ``ServiceCrash``."""

from typing import TYPE_CHECKING

from core.ids import ServiceName
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.problems import Problems, one_of
from twin.faults.base import Fault, Strike

if TYPE_CHECKING:
    from twin.world.world import World


class ServiceCrash(Fault, frozen=True, kw_only=True):
    """The process of a service exits on the nodes of the target."""

    service: str

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        names = [str(name) for name in catalog.names]
        if self.service not in names:
            problems.add(f"{key}.service", self.service, f"no such service; allowed: {one_of(names)}", names)

    def apply(self, world: "World", strike: Strike) -> None:
        for node in strike.nodes:
            if node in world.supervisors:
                world.supervisors[node].fail(ServiceName(self.service))

    def text(self, strike: Strike) -> str:
        return f"{self.service} on {', '.join(strike.nodes)}"
