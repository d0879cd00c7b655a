"""Figures of the ZooKeeper ensemble, as section ``zookeeper`` of the calibration file gives them."""

import msgspec

from twin.calibration import Sampled


class ZooKeeperTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times in ms unless the name says otherwise; each figure has its source in ``twin/calibration.toml``.

    ``cut_election_ms`` comes on top of the time-out (``sync_ms``); ``join_ms`` on top of ``start_ms``.
    """

    tick_ms: int
    sync_limit: int
    write_ms: Sampled
    read_ms: Sampled
    watch_ms: Sampled
    watcher_us: int
    connect_ms: Sampled
    ping_jitter_ms: Sampled
    expiry_lag_ms: int
    stop_close_ms: Sampled
    other_close_ms: Sampled
    suspended_ms: Sampled
    election_ms: Sampled
    reconnect_ms: Sampled
    cut_election_ms: Sampled
    quorum_lost_ms: Sampled
    cut_close_ms: Sampled
    start_ms: Sampled
    join_ms: Sampled
    heal_ms: Sampled
    heal_leader_ms: Sampled
    thaw_ms: Sampled
    reconfig_ms: Sampled
    reconfig_leader_ms: Sampled

    @property
    def sync_ms(self) -> int:
        """How long leader and follower bear each other's silence."""
        return self.tick_ms * self.sync_limit
