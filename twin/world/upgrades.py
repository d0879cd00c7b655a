"""What a world tells the truth about an upgrade of its nodes: who restarts into what, and what else was out then."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from core.ids import DomainId, ImageId, NodeId
from core.records import UPGRADE, UpgradeRecord
from twin.kernel import Kernel
from twin.truth import ImageAct, Truth
from twin.world.zookeeper import Ensemble


class Upgrades:
    """Hears of every restart into an image, and of the boot that ends it; ``domains``: the nodes' power domains."""

    def __init__(self, kernel: Kernel, truth: Truth, ensemble: Ensemble, domains: Mapping[NodeId, DomainId]) -> None:
        self._kernel, self._truth, self._ensemble, self._domains = kernel, truth, ensemble, domains
        self._out: dict[NodeId, None] = {}

    def heard(self, action: Literal["restarts", "came_up"], node: NodeId, image: ImageId) -> None:
        """Write down a restart with what was on record then; of other boots nothing."""
        act = ImageAct(at_ms=self._kernel.now, node=node, domain=self._domains[node], action=action, image=image)
        if action == "restarts":
            self._out[node] = None
            self._truth.images.append(self._judged(act))
        elif node in self._out:
            del self._out[node]
            self._truth.images.append(act)

    def _judged(self, act: ImageAct) -> ImageAct:
        voters = self._ensemble.voters
        running = [voter for voter in voters if self._ensemble.server_running(voter)]
        left = [voter for voter in running if voter != act.node]
        act = msgspec.structs.replace(act, quorum=2 * len(running) > len(voters), without=2 * len(left) > len(voters))
        record = self._ensemble.data_view(UPGRADE)
        if isinstance(record, UpgradeRecord):
            return msgspec.structs.replace(act, wanted=record.image, state=record.state, parallel=record.parallel)
        return act
