"""What one node costs that has nothing to do: memory and processor of its agent, supervisor and substitute in a lab."""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from bench.running import ROOT, cpu_of
from bench.table import Row
from core.errors import InputError
from core.ids import NodeId, ServiceName
from drivers.lab.build import Blueprint, equal_nodes
from drivers.lab.lab import check_machine, down, key_of, up
from drivers.lab.layout import LabFailure, Layout
from drivers.lab.power import processes_of
from drivers.lab.shell import argv_of
from formats.catalog import load_catalog

MINUTES = 1.0
NODES = 3
NAME, FOLDER = "mxidle", Path("/var/lib/moxie-lab-idle")
HOLDS = ServiceName("mariadb")
RSS_MIB_MAX, CPU_MAX = 60.0, 0.01
AFTER_S = 30.0
"""What starting cost is left out: so long nothing is counted."""


class Use(msgspec.Struct, frozen=True):
    """One process: what it has in memory, its share of that, and how much of a core it used."""

    role: str
    rss_mib: float
    own_mib: float
    cpu: float


def rows(minutes: float = MINUTES) -> Iterator[Row]:
    """Bring a lab of three nodes up, leave it alone, then measure for so many minutes."""
    try:
        check_machine(volumes=True)
    except InputError as error:
        yield Row(what="not measured", measured=error.problems[0])
        return
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(minutes, theirs))  # it moves into the lab's namespace
    process.start()
    theirs.close()
    try:
        found = msgspec.json.decode(ours.recv_bytes(), type=list[tuple[str, Use]])
    except EOFError:
        yield Row(what="not measured", measured="the lab did not come up")
        return
    finally:
        process.join()
    for who, use in found:
        agent = use.role == "agent"
        what = f"{use.role} of {who}"
        yield Row(
            what=f"{what}: memory",
            measured=f"{use.rss_mib:.1f} MiB ({use.own_mib:.1f} its share)",
            target=f"<= {RSS_MIB_MAX:g} MB" if agent else "",
            ok=use.rss_mib * (1 << 20) <= RSS_MIB_MAX * 1e6 if agent else None,
        )
        yield Row(
            what=f"{what}: processor",
            measured=f"{use.cpu:.2%} of a core",
            target=f"<= {CPU_MAX:.0%}" if agent else "",
            ok=use.cpu <= CPU_MAX if agent else None,
        )
    yield Row(what="the machine's load meanwhile", measured=f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def work(minutes: float, line: Connection) -> None:
    """Bring the lab up, measure the holder of the database and a node that holds nothing, take it away."""
    catalog = load_catalog(ROOT / "catalog" / "lab.toml")
    layout = Layout(
        name=NAME,
        folder=FOLDER,
        nodes=equal_nodes(NODES),
        vips=tuple(spec.address for spec in catalog.specs if spec.address),
        boot_ms=500,
    )
    plan = Blueprint(layout=layout, catalog=catalog)
    plan = msgspec.structs.replace(plan, layout=msgspec.structs.replace(layout, key=key_of(plan)))
    try:
        rack = up(plan, _say)
        time.sleep(AFTER_S)
        state = rack.observer.state()
        leases = [lease for spec in catalog.specs if (lease := state.lease(spec.name)) is not None]
        holders = {lease.node for lease in leases}
        held = state.lease(HOLDS)
        who = {"the database's holder": held.node} if held is not None else {}
        others = [node.id for node in layout.nodes if node.id not in holders]
        who |= {"a node that holds nothing": others[0]} if others else {}
        line.send_bytes(msgspec.json.encode(_use(layout, who, minutes * 60)))
    except LabFailure as error:
        _say(str(error))
    finally:
        down(NAME, FOLDER, _say)
        line.close()


def _use(layout: Layout, who: dict[str, NodeId], seconds: float) -> list[tuple[str, Use]]:
    """What the processes of these nodes use over so many seconds."""
    found = [(name, role, pid) for name, node in who.items() for role, pid in _processes(layout, node)]
    before = {pid: cpu_of(pid) for _, _, pid in found}
    time.sleep(seconds)
    return [
        (name, Use(role, *_memory_mib(pid), (cpu_of(pid) - before[pid]) / seconds))
        for name, role, pid in found
        if argv_of(pid)
    ]


def _processes(layout: Layout, node: NodeId) -> list[tuple[str, int]]:
    """The processes of a node that are ours, by their part."""
    found = []
    for pid in processes_of(layout, node):
        argv = argv_of(pid)
        if "drivers.cli" in argv:
            found.append(
                ("supervisor" if "supervisor" in argv else "substitute" if "--spare" in argv else "agent", pid)
            )
    return sorted(found)


def _memory_mib(pid: int) -> tuple[float, float]:
    """What a process has in memory, and its share of it where pages are shared."""
    sizes = dict.fromkeys(("Rss", "Pss"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0])
    return sizes["Rss"] / 1024, sizes["Pss"] / 1024


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
