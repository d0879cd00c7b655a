"""Runs scenarios through the command line, each once a process, for the tests that look at what came of it."""

import io
import json
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

from twin.cli import main

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.parent.name for path in (ROOT / "scenarios").glob("*/scenario.toml"))


@cache
def run(scenario: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Run one scenario: its exit code, and the object that ``--json`` prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(["run", str(ROOT / "scenarios" / scenario), "--json", *options])
    return code, json.loads(out.getvalue())


def summary(outcome: dict[str, Any]) -> str:
    """Tell an outcome in lines that can be compared and read: all of it that must not change unnoticed."""
    lines = [
        f"verdict {outcome['verdict']}",
        f"digest {outcome['digest']}",
        f"simulated {outcome['sim_ms']} ms in {outcome['events']} events and {outcome['steps']} steps",
    ]
    lines += [
        f"{move['service']} epoch {move['epoch']}: {move['from'] or '-'} -> {move['to'] or '-'} ({move['cause']}): "
        f"detected {move['detect_ms']} fenced {move['fence_ms']} started {move['start_ms']} total {move['total_ms']} ms"
        for move in outcome["failovers"]
    ]
    lines += [f"{service} unavailable {ms} ms" for service, ms in sorted(outcome["unavailable_ms"].items())]
    return "\n".join(lines) + "\n"
