"""The storage port of one node's agent."""

from collections.abc import Callable
from typing import assert_never

from core import effects as fx
from core.ports import Emit, StorageEffect
from twin.kernel import Kernel
from twin.world.answers import Answer, Asker
from twin.world.storage_map import StorageNode
from twin.world.storage_ops import VolumeOps


class VolumeClient(Asker):
    """``core.ports.StoragePort`` of one node; ``died``, ``freeze`` and ``thaw`` follow its agent process."""

    def __init__(
        self, kernel: Kernel, clock: Callable[[], int], node: StorageNode, ops: VolumeOps, admin_ms_max: int
    ) -> None:
        super().__init__(kernel, clock)
        self._node = node
        self._ops = ops
        self._admin_ms_max = admin_ms_max

    def submit(self, effect: StorageEffect, emit: Emit) -> None:
        """Begin one operation; its answer comes through ``emit``."""
        match effect:
            case fx.OpenVolume():
                self._ops.open(self._node, effect, Answer(self, effect.op, emit, effect.ms_max))
            case fx.CloseVolume():
                self._ops.close(self._node, effect, Answer(self, effect.op, emit, effect.ms_max))
            case fx.FenceInstance():
                self._ops.fence(self._node, effect, Answer(self, effect.op, emit, effect.ms_max))
            case fx.LiftBlock():
                self._ops.lift(self._node, effect, Answer(self, effect.op, emit, self._admin_ms_max))
            case _:
                assert_never(effect)

    agent_died = Asker.died
