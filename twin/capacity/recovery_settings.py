"""What limits recovery: Ceph's own settings, and what disks and networks can do."""

from typing import Literal, Protocol

import msgspec

Kind = Literal["hdd", "ssd", "nvme"]


class RecoverySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of recovery; each field is a figure of the assumptions, which say its source and unit.

    Sleeps in seconds, bandwidths in bytes/s, a host's network in Mbit/s, costs in milliseconds, shares as ratios.
    """

    osd_max_backfills: int = 1
    osd_recovery_max_active_hdd: int = 3
    osd_recovery_max_active_ssd: int = 10
    osd_recovery_sleep_hdd: float = 0.1
    osd_recovery_sleep_ssd: float = 0.0
    mon_osd_down_out_interval: int = 600
    disk_bytes_per_s_hdd: float = 150e6
    disk_bytes_per_s_ssd: float = 450e6
    disk_bytes_per_s_nvme: float = 2e9
    object_ms_hdd: float = 5.0
    object_ms_ssd: float = 2.0
    object_ms_nvme: float = 1.0
    network_mbit_per_s: float = 10_000.0
    recovery_share: float = 1.0
    peering_ms: int = 1_000
    pg_recovery_ms: int = 50

    def max_active(self, kind: Kind) -> int:
        """How many objects an OSD recovers at once."""
        return self.osd_recovery_max_active_hdd if kind == "hdd" else self.osd_recovery_max_active_ssd

    def sleep_s(self, kind: Kind) -> float:
        """How long an OSD waits before it starts on another object."""
        return self.osd_recovery_sleep_hdd if kind == "hdd" else self.osd_recovery_sleep_ssd

    def disk_bytes_per_s(self, kind: Kind) -> float:
        """What a disk reads or writes of large objects."""
        return {"hdd": self.disk_bytes_per_s_hdd, "ssd": self.disk_bytes_per_s_ssd, "nvme": self.disk_bytes_per_s_nvme}[
            kind
        ]

    def object_s(self, kind: Kind) -> float:
        """What an object costs a disk beside its bytes: seeks, commits, round trips."""
        return {"hdd": self.object_ms_hdd, "ssd": self.object_ms_ssd, "nvme": self.object_ms_nvme}[kind] / 1_000


class Figures(Protocol):
    """Where the settings come from: `twin.capacity.assumptions.Assumptions`."""

    def number(self, key: str) -> float:
        """The figure called ``key``."""


def settings_of(figures: Figures) -> RecoverySettings:
    """Take the settings from a plan's assumptions. Raises: KeyError if one is missing there."""
    values: dict[str, int | float] = {}
    for field in msgspec.structs.fields(RecoverySettings):
        value = figures.number(field.name)
        values[field.name] = int(value) if field.type is int else value
    return msgspec.convert(values, RecoverySettings)
