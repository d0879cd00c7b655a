"""What a world tells the truth about storage, power orders and the ensemble, as it happens."""

from collections.abc import Iterable, Mapping
from typing import Literal

from core.ids import NodeId, ServiceName, VolumeName
from core.records import Instance, PowerRecord, TermRecord, power_path, term_path
from twin.kernel import Kernel
from twin.truth import BlockChange, FirstWrite, LeaderChange, PowerAct, Proof, Truth
from twin.world.bmc import OrderTaken
from twin.world.clock import Clock
from twin.world.power import Power
from twin.world.storage import Storage
from twin.world.zookeeper import Ensemble


class Witness:
    """Listens to the parts of a world, and adds to what they say what was committed by then."""

    def __init__(
        self,
        kernel: Kernel,
        truth: Truth,
        ensemble: Ensemble,
        clocks: Mapping[NodeId, Clock],
        services: Iterable[ServiceName],
    ) -> None:
        self._kernel, self._truth, self._ensemble, self._clocks = kernel, truth, ensemble, clocks
        self._terms = [term_path(name) for name in services]

    def listen(self, storage: Storage, power: Power) -> None:
        """Begin to write down what happens."""
        kernel, truth = self._kernel, self._truth
        storage.on_accept(self._accepted)
        storage.on_block(self._block_changed)
        storage.on_open(lambda volume, node, epoch: truth.opening(kernel.now, volume, node, epoch))
        storage.on_closed(lambda _volume, instance: truth.closed(instance))
        power.on_order(self._ordered)
        power.bmc.on_proof(lambda node: truth.proofs.append(Proof(at_ms=kernel.now, node=node)))
        self._ensemble.on_change(self._leader_changed)
        self._ensemble.on_voters(self._leader_changed)

    def _accepted(self, at_ms: int, volume: VolumeName, instance: Instance, payload: int) -> None:
        if self._truth.wrote(at_ms, volume, instance, payload):
            terms = [self._ensemble.data_view(path) for path in self._terms]
            recorded = any(isinstance(term, TermRecord) and instance in term.identities for term in terms)
            self._truth.first_write(FirstWrite(at_ms=at_ms, volume=volume, instance=instance, recorded=recorded))

    def _block_changed(
        self,
        at_ms: int,
        volume: VolumeName,
        instance: Instance,
        change: Literal["blocked", "complete", "lifted", "expired"],
    ) -> None:
        self._truth.block_changed(BlockChange(at_ms=at_ms, volume=volume, instance=instance, change=change))

    def _leader_changed(self) -> None:
        """Record who can commit now, if that is another one or for other voters."""
        leader, voters, leaders = self._ensemble.leader, self._ensemble.voters, self._truth.leaders
        if not leaders or (leaders[-1].leader, leaders[-1].voters) != (leader, voters):
            leaders.append(LeaderChange(at_ms=self._kernel.now, leader=leader, voters=voters))

    def _ordered(self, taken: OrderTaken) -> None:
        order = taken.order
        record = self._ensemble.data_view(power_path(order.node))
        self._truth.power.append(
            PowerAct(
                at_ms=taken.at_ms,
                node=order.node,
                by=taken.by,
                action=order.action,
                generation=order.generation,
                deadline_at_ms=self._clocks[taken.by].kernel_at(order.deadline_ms),
                was=taken.was,
                obeyed=taken.obeyed,
                committed=isinstance(record, PowerRecord) and record.generation >= order.generation,
            )
        )
