"""What is wanted: services, nodes and the timers of the protocol. Plain frozen records."""

from typing import Literal

import msgspec

from core.ids import NO_VOLUME, DomainId, NodeId, RackId, ServiceName, VolumeName

Run = Literal["everywhere", "singleton", "count"]


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One service of the catalog, as the core sees it.

    ``cores`` and ``memory_bytes`` are the demand of one running copy. ``needs`` names services that must be
    healthy first: an everywhere-service on the same node, any other anywhere. ``anti_affinity`` names services
    that must not run on the same node. ``power_fence`` asks for the holder's node to be power-fenced as well
    (it never delays the start).
    """

    name: ServiceName
    run: Run
    count: int = 1
    volume: VolumeName = NO_VOLUME
    address: str = ""
    cores: int = 0
    memory_bytes: int = 0
    needs: tuple[ServiceName, ...] = ()
    anti_affinity: tuple[ServiceName, ...] = ()
    power_fence: bool = False
    start_ms_max: int = 30_000
    stop_ms_max: int = 10_000


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """One machine, as the core sees it. ``weight`` is relative (100 is an ordinary machine).

    ``voter``: it can run a ZooKeeper server. ``number``: its place in the rack's numbering, 0 where it has none.
    """

    id: NodeId
    rack: RackId
    power_domain: DomainId
    weight: int = 100
    cores: int = 32
    memory_bytes: int = 128 << 30
    voter: bool = True
    number: int = 0


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The timers of the protocol, all in milliseconds of the node's own clock unless the name says otherwise.

    ``fresh_ms`` and ``withdraw_ms`` are those of rule 5: a holder with a volume serves while evidence was asked
    for within ``fresh_ms``, and is off the network ``withdraw_ms`` later.
    """

    session_timeout_ms: int = 2_000
    beat_ms: int = 250
    probe_ms: int = 200
    fresh_ms: int = 500
    withdraw_ms: int = 200
    stall_ms: int = 8_000
    claim_step_ms: int = 400
    unfit_ms: int = 60_000
    retry_ms: int = 250
    retry_ms_max: int = 5_000
    commit_ms_max: int = 2_000
    fence_ms_max: int = 5_000
    block_ms: int = 3_600_000
    power_ms_max: int = 8_000
    suspect_ms: int = 600
    recover_ms: int = 10_000
    boot_ms_max: int = 240_000
    backoff_ms: int = 15_000
    backoff_ms_max: int = 600_000
    ask_ms_max: int = 60_000
    boot_attempts_max: int = 5
    stable_ms: int = 600_000
    inrush_slots: int = 4
    brake_hold_ms: int = 120_000
    ensemble_repair_ms: int = 30_000
    scan_ms: int = 60_000
    scan_ms_max: int = 10_000
    console_ms_max: int = 5_000
    stage_ms_max: int = 600_000
    gate_ms: int = 15_000

    @property
    def admission_ms(self) -> int:
        """Time from the last fence until a new holder may admit clients: (fresh + withdraw) x 1.05, rounded up."""
        return -(-(self.fresh_ms + self.withdraw_ms) * 105 // 100)

    @property
    def no_volume_wait_ms(self) -> int:
        """Time from the claim until a service without a volume may start: session timeout x 1.05, rounded up."""
        return -(-self.session_timeout_ms * 105 // 100)

    @property
    def coordination_ms(self) -> int:
        """Age of coordination evidence at which a service without a volume stops: 2/3 of the session timeout."""
        return self.session_timeout_ms * 2 // 3
