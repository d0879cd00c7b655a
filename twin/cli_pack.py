"""The command ``twin pack``: how many machines of a mix fit on hosts and survive a loss."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import InputError
from formats.arguments import whole
from formats.paint import Paint
from twin.arguments import made, progress, real

if TYPE_CHECKING:
    from twin.packing.answer import Packing
    from twin.packing.mix import MixFile
    from twin.packing.records import Hosts
    from twin.packing.workloads import Workload
    from twin.table import Table

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

NOTHING = 3
"""The exit code if not one machine fits."""
POLICY_NAMES = ("best", "reserved", "planned", "spread", "pack", "best_fit", "dot", "first_fit")


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser("pack", help="how many virtual machines fit and survive a loss", allow_abbrev=False)
    one.add_argument("source", type=Path, nargs="?", metavar="SOURCE", help="a rack file, or an OpenDC topology (JSON)")
    one.add_argument("--hosts", type=whole(1, 200_000), metavar="N", help="instead of SOURCE: so many equal hosts")
    one.add_argument("--cores", type=whole(1, 4_096), metavar="C", help="cores of each of them")
    one.add_argument("--memory-gib", type=real(0, 65_536), metavar="M", help="memory of each of them")
    one.add_argument("--per-rack", type=whole(1, 10_000), default=40, metavar="N", help="hosts in a rack (default: 40)")
    one.add_argument("--mix", type=Path, required=True, metavar="FILE", help="the flavours and their shares")
    losses = ("none", "node", "rack", "pdu")
    one.add_argument("--survive", choices=losses, default="node", help="what may be lost (default: node)")
    one.add_argument("--spare", type=whole(1, 100), default=1, metavar="K", help="so many of them at once (default: 1)")
    one.add_argument("--policy", choices=POLICY_NAMES, default="best", help="how machines are placed (default: best)")
    one.add_argument("--workload", type=Path, metavar="FILE", help="also replay machines that come and go")
    one.add_argument("--mirrored", action="store_true", help="instead: on pairs of nodes (DRBD), as Ganeti does")
    one.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    one.add_argument("--report", type=Path, metavar="DIR", help="write a page with pictures")
    one.set_defaults(command=_pack)


def _pack(arguments: argparse.Namespace) -> int:
    from twin.packing.answer import fewest_table, packing_of, replays  # numpy and scipy are only needed here
    from twin.packing.mix import load_mix
    from twin.packing.words import to_text

    file = load_mix(arguments.mix)
    source, hosts = _hosts(arguments, file)
    workload = _workload(arguments)
    folder: Path | None = made(arguments.report) if arguments.report is not None else None
    if arguments.mirrored:
        return _mirrored(arguments, file, hosts)
    try:
        what = (arguments.survive, arguments.spare, arguments.policy)
        answer = packing_of(source, hosts, file, *what, progress=progress("searches done"))
    except ValueError as error:
        raise InputError([f"{arguments.mix}: {error}"]) from None
    tables: list[Table] = []
    if not answer.fit.why and (few := fewest_table(hosts, file, answer.fit.vms)) is not None:
        tables.append(few)
    if workload is not None:
        tables.append(replays(hosts, workload))
    if folder is not None:
        from twin.report.packing import write_page  # matplotlib takes longer to import than all else here

        page = write_page(folder, answer, tables)
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(_object(answer, tables)).decode() + "\n")
    else:
        sys.stdout.write(to_text(answer, tables, Paint(sys.stdout.isatty())))
        sys.stdout.write(f"report: {page}\n" if folder is not None else "")
    return 0 if answer.fit.vms else NOTHING


def _hosts(arguments: argparse.Namespace, file: "MixFile") -> "tuple[str, Hosts]":
    """The hosts, and what to call where they come from."""
    from twin.packing.sources import equal_hosts, read_hosts

    numbers = (arguments.hosts, arguments.cores, arguments.memory_gib)
    if arguments.source is not None:
        if any(number is not None for number in numbers):
            raise InputError(["SOURCE and --hosts, --cores, --memory-gib: allowed: one or the other"])
        return str(arguments.source), read_hosts(arguments.source, file)
    if any(number is None for number in numbers):
        raise InputError(["SOURCE is missing; needed: a rack file, a topology, or --hosts, --cores and --memory-gib"])
    count, cores, memory_gib = numbers
    hosts = equal_hosts(count, cores, round(memory_gib * 2**30), arguments.per_rack, file)
    return f"{count} hosts of {cores} cores and {memory_gib:g} GiB", hosts


def _workload(arguments: argparse.Namespace) -> "Workload | None":
    from twin.packing.workloads import read_workload

    return None if arguments.workload is None else read_workload(arguments.workload)


def _mirrored(arguments: argparse.Namespace, file: "MixFile", hosts: "Hosts") -> int:
    """Pairs of nodes; the hosts must be alike, and so must the machines."""
    from twin.packing.drbd import DrbdInstance, DrbdNode, drbd_capacity
    from twin.packing.words import drbd_text

    if len(file.mix.flavours) != 1:
        raise InputError([f"{arguments.mix}: {len(file.mix.flavours)} flavours; needed with --mirrored: one"])
    if len(hosts) < 2 or (hosts.room != hosts.room[0]).any():
        raise InputError(["--mirrored: needed: at least two hosts, all alike"])
    flavour = file.mix.flavours[0]
    if flavour.memory_bytes < 2**20:
        raise InputError([f"{arguments.mix}: flavour[0].memory_gib: allowed with --mirrored: at least 1 MiB"])
    cores = max(1, round(int(hosts.room[0, 0]) / file.cores_ratio))
    node = DrbdNode(memory_mib=int(hosts.room[0, 1]) >> 20, cores=cores)
    disk_mib = flavour.disk_bytes >> 20
    instance = DrbdInstance(memory_mib=flavour.memory_bytes >> 20, cores=flavour.cores, disk_mib=disk_mib)
    found = drbd_capacity(len(hosts), node, instance)
    if arguments.json:
        shown = {"nodes": len(hosts), "instances": found.instances, "ideal": found.ideal, "pairs": found.pairs}
        sys.stdout.write(msgspec.json.encode(shown).decode() + "\n")
    else:
        sys.stdout.write(drbd_text(len(hosts), node, instance, found))
    return 0 if found.instances else NOTHING


def _object(answer: "Packing", tables: "list[Table]") -> dict[str, object]:
    fit = answer.fit
    return {
        "source": answer.source,
        "mix": answer.file.mix.name,
        "hosts": len(answer.hosts),
        "survive": answer.survive,
        "spare": answer.spare,
        **msgspec.structs.asdict(fit),
        "lost_to_headroom_vms": fit.lost_to_headroom_vms,
        "lost_to_fragmentation_vms": fit.lost_to_fragmentation_vms,
        "policies": answer.policies,
        "tables": [{"title": table.title, "rows": table.rows} for table in tables],
    }
