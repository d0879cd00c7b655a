"""Starting a first server that was just made: its units, then the first shared records as soon as that works."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import InputError
from drivers.clock import now_ms

COMMAND = ("systemctl", "--no-block", "start", "moxie-daemons.service", "moxie.service")
COMMAND_S_MAX = 60
READY_MS_MAX = 600_000
"""A machine that is emulated or busy takes minutes to its first ZooKeeper server."""
PAUSE_S, PAUSE_SHARE = 2.0, 4
"""Between two looks, at least; and so many times as long as a look took: a slow machine has to start meanwhile."""


def start(
    operator: Path, say: Callable[[str], None], command: Sequence[str] = COMMAND, ms_max: int = READY_MS_MAX
) -> None:
    """Start the rack and write its first records; again is harmless.

    ``command``: what starts it. Raises: InputError if it does not start, or cannot be written to in time.
    """
    from drivers.access import load_access
    from drivers.seed import seed_rack

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError([f"{command[0]}: {error}; needed: a machine that systemd runs"]) from None
    if done.returncode:
        raise InputError([f"{' '.join(command)}: {done.stderr.strip()[:300]}; needed: the units of our image"])
    access, until_ms = load_access(operator), now_ms() + ms_max
    while True:
        asked_ms = now_ms()
        try:
            said = seed_rack(access)
        except InputError:
            if now_ms() >= until_ms:
                raise
            time.sleep(max(PAUSE_S, PAUSE_SHARE * (now_ms() - asked_ms) / 1_000))
            continue
        for sentence in said:
            say(f"  {sentence}")
        say("the rack runs and has its first records: it looks for machines now")
        return
