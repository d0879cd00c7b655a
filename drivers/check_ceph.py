"""``rack check`` of the storage: reachable, healthy, with room, and quick enough to fence and to fail over."""

from collections.abc import Iterator
from typing import Any

from core.specs import Timing
from drivers.ceph import Ceph, CephError
from drivers.config import CephTable
from drivers.finding import Finding, Severity, error, note, ok, warning

LIMIT_MS = 4_000
PROPOSE_S_MAX = 0.2
"""A blocklist entry waits for the monitors' next proposal: 390 to 1,020 ms with the default of 1 s, 30 to 121 with 0.1.
Source: facts measured on Ceph 16.2, section Fencing."""
LEASE_S_MAX = 1.0
"""With the default of 5 s nothing can be fenced for 14.4 s after the leading monitor died; with 1 s, for 3 s.
Source: as above."""
GRACE_S_MAX = 6.0
"""A hung storage daemon is marked down after its heartbeat grace (20 s by default); until then no fence that needs one
of its placement groups is confirmed. Source: as above."""
SKEW_S_MAX = 0.05
"""Source: Ceph's own default of mon_clock_drift_allowed."""


def check_ceph(table: CephTable, timing: Timing) -> Iterator[Finding]:
    """Look at the storage through a connection of its own."""
    about = str(table.conf)
    if table.keyring is not None and not table.keyring.exists():
        remedy = f"copy the keyring of client.{table.user} there, mode 600"
        yield error("ceph", str(table.keyring), "the keyring is missing", remedy)
        return
    ceph = Ceph(table)
    try:
        ceph.connect(LIMIT_MS)
        yield ok("ceph", about, f"reached as client.{table.user}, from {ceph.address}")
        status, dump = ceph.health(LIMIT_MS), ceph.command("osd dump", ms_max=LIMIT_MS)
        yield from judge_health(status)
        yield from judge_room(dump, ceph.command("df", ms_max=LIMIT_MS))
        yield from _pool(dump, table.pool)
        yield from _clocks(ceph)
        yield from _settings(ceph, status, dump, timing)
    except CephError as failure:
        remedy = (
            "the monitors' addresses in the file, the network to them, and the user's key (ceph -s on this machine)"
        )
        yield error("ceph", about, f"{failure.detail} ({failure.reason})", remedy)
    finally:
        ceph.close()


def judge_health(status: dict[str, Any]) -> Iterator[Finding]:
    """What the storage says of itself, one finding for each of its own checks."""
    health = status.get("health", {})
    checks = health.get("checks", {})
    if health.get("status") == "HEALTH_OK":
        yield ok("ceph health", "storage", "HEALTH_OK")
    for name, check in sorted(checks.items()):
        said = str(check.get("summary", {}).get("message", name))
        severity: Severity = "error" if check.get("severity") == "HEALTH_ERR" else "warning"
        yield Finding(severity=severity, check="ceph health", about=name, measured=said, remedy="ceph health detail")
    quorum, monitors = status.get("quorum_names", []), status.get("monmap", {}).get("num_mons", 0)
    if monitors < 3:
        remedy = "three monitors on three nodes: with fewer the loss of one node ends all fencing"
        yield warning("ceph monitors", "storage", f"{monitors} monitor{'s' if monitors != 1 else ''}", remedy)
    elif len(quorum) < monitors:
        yield warning("ceph monitors", "storage", f"{len(quorum)} of {monitors} agree", "start the missing ones")
    else:
        yield ok("ceph monitors", "storage", f"{monitors} agree")


def judge_room(dump: dict[str, Any], df: dict[str, Any]) -> Iterator[Finding]:
    """How far the storage is from being full: a full one takes no writes, which stops every service with a volume."""
    stats = df.get("stats", {})
    used = float(stats.get("total_used_raw_ratio", 0.0))
    near, full = float(dump.get("nearfull_ratio", 0.85)), float(dump.get("full_ratio", 0.95))
    measured = f"{used:.0%} used; it warns at {near:.0%} and takes no writes from {full:.0%} on any daemon"
    if used >= full:
        yield error("ceph room", "storage", measured, "delete what is not needed, or add storage daemons")
    elif used >= near:
        yield warning("ceph room", "storage", measured, "add storage daemons before it is full")
    else:
        yield ok("ceph room", "storage", measured)
    if not 0 < near < float(dump.get("backfillfull_ratio", 0.9)) < full < 1:
        yield warning("ceph room", "full ratios", measured, "ceph osd set-nearfull-ratio .85; set-full-ratio .95")


def _pool(dump: dict[str, Any], name: str) -> Iterator[Finding]:
    """Whether the pool of the volumes survives the loss of a node."""
    pool = next((p for p in dump.get("pools", []) if p.get("pool_name") == name), None)
    if pool is None:
        yield error("ceph pool", name, "does not exist", f"ceph osd pool create {name}; rbd pool init {name}")
        return
    size, least = int(pool.get("size", 0)), int(pool.get("min_size", 0))
    measured = f"{size} copies, writes need {least}"
    if size < 3 or least < 2:
        remedy = f"ceph osd pool set {name} size 3; ceph osd pool set {name} min_size 2"
        yield warning("ceph pool", name, measured, remedy)
    else:
        yield ok("ceph pool", name, measured)


def _clocks(ceph: Ceph) -> Iterator[Finding]:
    """How far the monitors' clocks are apart, by their own measure."""
    try:
        found = ceph.command("time-sync-status", ms_max=LIMIT_MS)
    except CephError as failure:
        yield note("clocks", "monitors", f"not measured: {failure.detail}")
        return
    skews = found.get("time_skew_status") or {}
    worst = max((abs(float(one.get("skew", 0.0))) for one in skews.values()), default=0.0)
    measured = f"the monitors' clocks are at most {worst * 1000:.0f} ms apart"
    if worst > SKEW_S_MAX:
        yield warning("clocks", "monitors", measured, "run chrony (the catalog's ntp) on every node")
    else:
        yield ok("clocks", "monitors", measured)


def _settings(ceph: Ceph, status: dict[str, Any], dump: dict[str, Any], timing: Timing) -> Iterator[Finding]:
    """Settings that decide how long a fence, and with it a failover, takes."""
    monitors = status.get("quorum_names", [])
    daemons = [osd["osd"] for osd in dump.get("osds", []) if osd.get("up")]
    mon, osd = f"mon.{monitors[0]}" if monitors else "", f"osd.{daemons[0]}" if daemons else ""
    fence_s = timing.fence_ms_max / 1000
    wanted = (
        (mon, "paxos_propose_interval", PROPOSE_S_MAX, "every fence waits for the monitors' next proposal", "0.1"),
        (mon, "mon_lease", LEASE_S_MAX, "nothing is fenced for about three leases after the leading monitor died", "1"),
        (
            osd,
            "osd_heartbeat_grace",
            min(GRACE_S_MAX, max(fence_s, 1.0)),
            f"a hung daemon holds every fence up for that long, and one is given up after {fence_s:g} s",
            f"{max(2, int(fence_s)):d}",
        ),
    )
    for daemon, key, most, why, better in wanted:
        if not daemon:
            continue
        try:
            value = float(ceph.setting(daemon, key, LIMIT_MS))
        except (CephError, ValueError) as failure:
            yield note("ceph settings", key, f"not read: {failure}")
            continue
        if value > most:
            remedy = f"ceph config set {daemon.split('.')[0]} {key} {better} (and restart the daemons, or ceph tell)"
            yield warning("ceph settings", key, f"{value:g} s: {why}", remedy)
        else:
            yield ok("ceph settings", key, f"{value:g} s")
