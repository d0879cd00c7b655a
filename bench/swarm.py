"""How many campaigns of random failures run in a second, what a pool adds to that, and how much memory they take."""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.running import ROOT
from bench.table import Row
from twin.swarm.attempt import attempt
from twin.swarm.draw import Menu, draw, make_menu
from twin.swarm.engine import LocalEngine
from twin.swarm.found import Found
from twin.swarm.shrink import shrink
from twin.swarm.summary import Tally
from twin.swarm.tape import Tape

RACK, CATALOG = ROOT / "racks/five.toml", ROOT / "catalog/minimal.toml"
SEEDS = 400
WARM = 20
"""Seeds that run before anything is measured: they fill the caches that a long campaign has full."""
TURNS = 2
"""Serial and pool run in turns, and the cheaper one of each counts: other work on the computer only adds to it."""
MANY = 10_000
"""The memory of so many seeds is what the target is about; it is drawn out from that of ``SEEDS``."""
JOBS = 2
FAULTS, PLANTED = 50, ("bmc_dead", "osd_loss", "zookeeper_crash")
"""The case for shrinking: it fails while all three planted kinds are among its faults."""


def rows(thousands: float = SEEDS / 1_000) -> Iterator[Row]:
    """Measure ``thousands`` of seeds of the default profile on five nodes, with every checker looking on."""
    menu = make_menu("default", RACK, CATALOG)
    seeds = range(max(JOBS * 10, int(thousands * 1_000)))
    for _ in LocalEngine(1).run(menu, range(MANY, MANY + WARM)):
        pass
    turns = [(_measured(menu, seeds, 1), _measured(menu, seeds, JOBS)) for _ in range(TURNS)]
    serial, pool = (min(found, key=lambda one: one.cpu_s) for found in zip(*turns, strict=True))
    each_ms, sim_s = 1_000 * serial.cpu_s / len(seeds), serial.sim_ms / 1_000
    words = f"{len(seeds):,d} seeds of {sim_s / len(seeds):,.0f} s and {serial.faults / len(seeds):.1f} faults"
    yield Row(what="measured on five nodes, all checkers on", measured=words)
    rate = len(seeds) / pool.wall_s
    yield Row(what=f"seeds a second, {JOBS} processes", measured=f"{rate:,.0f}", target=">= 100", ok=rate >= 100)
    yield Row(what="CPU time a seed", measured=f"{each_ms:.1f} ms", target="<= 20 ms", ok=each_ms <= 20)
    yield Row(what="CPU time a seed of 600 simulated s", measured=f"{each_ms * 600 * len(seeds) / sim_s:.1f} ms")
    yield Row(what="simulated hours a wall second", measured=f"{sim_s / 3_600 / pool.wall_s:,.1f}")
    yield Row(what="simulated time / CPU time of one core", measured=f"{sim_s / serial.cpu_s:,.0f} x")
    yield Row(what="peer, published: VOPR of TigerBeetle, a core", measured="~700 x")
    yield Row(what="peer, published: simulation of FoundationDB, a core", measured="~10 x")
    more = pool.cpu_s / serial.cpu_s - 1
    yield Row(
        what="CPU time of the pool over serial", measured=f"{100 * more:+.1f} %", target="<= 5 %", ok=more <= 0.05
    )
    yield _memory(pool)
    yield _shrinking(menu)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run of many seeds. ``early_kib``, ``peak_kib``: all processes after a quarter of them, and at the most."""

    seeds: int
    wall_s: float
    cpu_s: float
    sim_ms: int
    faults: int
    early_kib: int
    peak_kib: int


def _measured(menu: Menu, seeds: range, jobs: int) -> Measured:
    tally, faults, sim_ms, early_kib, peak_kib = Tally(menu.profile.name), 0, 0, 0, 0
    began_s, cpu_s = time.perf_counter(), _cpu_s()
    for count, found in enumerate(LocalEngine(jobs).run(menu, seeds), 1):
        tally.add(found)
        faults += found.faults
        sim_ms += found.sim_ms
        if count % (len(seeds) // 4) == 0:
            peak_kib = max(peak_kib, _resident_kib())
            early_kib = early_kib or peak_kib
    return Measured(
        seeds=len(seeds),
        wall_s=time.perf_counter() - began_s,
        cpu_s=_cpu_s() - cpu_s,
        sim_ms=sim_ms,
        faults=faults,
        early_kib=early_kib,
        peak_kib=peak_kib,
    )


def _cpu_s() -> float:
    """CPU time of this process and of those of its children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _resident_kib() -> int:
    """Resident memory of this process and its children; what they share is counted in each."""
    mine = os.getpid()
    children = Path(f"/proc/{mine}/task/{mine}/children").read_text(encoding="ascii").split()
    pages = [int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in (str(mine), *children)]
    return sum(pages) * resource.getpagesize() // 1_024


def _memory(pool: Measured) -> Row:
    """Draw the growth of the last three quarters out to ``MANY`` seeds."""
    growth_kib = (pool.peak_kib - pool.early_kib) / (0.75 * pool.seeds)
    many_mib = (pool.peak_kib + growth_kib * max(0, MANY - pool.seeds)) / 1_024
    return Row(
        what=f"memory of {JOBS + 1} processes after {MANY:,d} seeds, from {pool.seeds:,d}",
        measured=f"{many_mib:,.0f} MiB",
        target="< 1,024 MiB",
        ok=many_mib < 1_024,
    )


def _shrinking(menu: Menu) -> Row:
    """Shrink a planted case: three faults among fifty that only fail together."""
    tape = planted_tape(menu)
    began_s = time.perf_counter()
    shrunk = shrink(tape, attempt=planted)
    wall_s = time.perf_counter() - began_s
    return Row(
        what=f"shrinking {shrunk.faults_before} faults to {shrunk.faults_after} in {shrunk.runs} runs",
        measured=f"{wall_s:.1f} s",
        target="<= 60 s, <= 3 faults",
        ok=wall_s <= 60 and shrunk.faults_after <= len(PLANTED),
    )


def planted_tape(menu: Menu) -> Tape:
    """A drawn campaign with the faults of further ones up to ``FAULTS``, each planted kind once among them."""
    tape, found = draw(1, menu), []
    for seed in range(1, MANY):
        drawn = draw(seed, menu)
        found += [fault for fault in drawn.fault if drawn.start == "warm" and fault["kind"] not in PLANTED]
        if len(found) >= FAULTS - len(PLANTED):
            break
    spread_ms = tape.duration_ms // (len(PLANTED) + 2)
    own: list[dict[str, object]] = [
        {"kind": kind, "target": "n2", "at_ms": spread_ms * (at + 1), "for_ms": 10_000}
        for at, kind in enumerate(PLANTED)
    ]
    faults = sorted([*found[: FAULTS - len(PLANTED)], *own], key=lambda fault: int(str(fault["at_ms"])))
    return msgspec.structs.replace(tape, start="warm", services=(), fault=tuple(faults))


def planted(tape: Tape) -> Found:
    """Run a tape; it breaks a rule if each planted kind is among its faults."""
    found = attempt(tape)
    kinds = {fault["kind"] for fault in tape.fault}
    broken = all(kind in kinds for kind in PLANTED)
    return msgspec.structs.replace(
        found, verdict="safety" if broken else "pass", broken="planted" if broken else "", detail=""
    )
