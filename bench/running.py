"""Runs a scenario written down here through the command line, in a process of its own, and reads what it reports."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_text(text: str, *options: str) -> dict[str, Any]:
    """Run a scenario given as text. Raises: RuntimeError if it does not end as it expects."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench" / "scenario.toml"
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        return run(path.parent, *options)


def run(scenario: Path, *options: str) -> dict[str, Any]:
    """Run a scenario. Raises: RuntimeError if it does not end as it expects."""
    command = [sys.executable, "-m", "twin.cli", "run", str(scenario), "--json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def cpu_s() -> float:
    """CPU time of this process, in seconds; other work on the machine disturbs it less than wall time."""
    return time.process_time()


def cpu_of(pid: int) -> float:
    """Processor time of another process so far, in seconds, from the kernel's count of ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
