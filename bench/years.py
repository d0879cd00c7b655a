"""A year of failures of big sites: processor time and memory of the whole command, started from nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bench.running import ROOT
from bench.table import Row

SIZES = ((1_000, 5.0, 2_048), (10_000, 60.0, 2_048))
"""Nodes of ten disks, seconds of processor time at most, MiB at most."""


def rows() -> Iterator[Row]:
    """Measure each size in a process of its own."""
    for nodes, target_s, target_mib in SIZES:
        cpu_s, mib, years = _run(nodes)
        storage = years["storage"]
        yield Row(
            what=f"{nodes:,} nodes x 10 disks x 1 year: processor time",
            measured=f"{cpu_s:.1f} s",
            target=f"<= {target_s:.0f} s",
            ok=cpu_s <= target_s,
        )
        yield Row(what=f"{nodes:,} nodes: memory", measured=f"{mib:,.0f} MiB", target="< 2 GiB", ok=mib < target_mib)
        failures = sum(row["failures"] for row in years["components"])
        yield Row(what=f"{nodes:,} nodes: failures", measured=f"{failures:,}")
        yield Row(what=f"{nodes:,} nodes: placement groups", measured=f"{storage['groups']:,}")


def _run(nodes: int) -> tuple[float, float, dict[str, Any]]:
    """Run the command and wait for it by its own account. Raises: RuntimeError if it fails."""
    command = [sys.executable, "-m", "twin.cli", "years", "--nodes", str(nodes), "--disks", "10", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        text = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {child.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1_024, json.loads(text)
