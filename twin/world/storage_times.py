"""What the storage is built from: its figures (section ``storage`` of the calibration) and its layout."""

import msgspec

from core.ids import NodeId, VolumeName
from core.records import Instance
from twin.calibration import Sampled


class StorageTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long the storage takes; times in ms. Every figure has its source in ``twin/calibration.toml``.

    ``groups``: placement groups of the pool; ``send_ms`` from the client to the first copy, ``ack_ms`` from there until
    every copy has it and the client knows. ``spread_ms``: from the monitors' decision until the last daemon has it.
    """

    groups: int
    size: int
    min_size: int
    send_ms: Sampled
    ack_ms: Sampled
    open_ms: Sampled
    refuse_ms: Sampled
    close_ms: Sampled
    watch_ms: int
    command_ms: Sampled
    command_answer_ms: int
    spread_ms: Sampled
    barrier_ms: Sampled
    admin_ms_max: int
    election_ms: Sampled
    down_loud_ms: Sampled
    down_silent_ms: Sampled
    osd_start_ms: Sampled
    out_ms: int
    recovery_ms: Sampled
    outage_ms: int
    flap_down_ms: int
    flap_up_ms: int


class StorageLayout(msgspec.Struct, frozen=True, kw_only=True):
    """Which nodes carry how many storage daemons (one a disk), which run a monitor, which volumes there are."""

    disks: dict[NodeId, int]
    monitors: tuple[NodeId, ...]
    volumes: tuple[VolumeName, ...]


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """One write that the storage took. ``payload`` 0 is a probe or a mount."""

    at_ms: int
    volume: VolumeName
    instance: Instance
    payload: int
