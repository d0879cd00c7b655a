"""What a machine that runs does about the slots of its disk: put the running image there, and leave one nobody kept.

Run by units of the image (``python3 -m drivers.image.install WHAT``); ``prepare_disk`` has gone before.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from core.errors import InputError
from drivers.image.disk import node_cfg
from drivers.image.slot_filesystem import SlotFailure
from drivers.image.slots import find_disk
from drivers.image.stage import Staging, locked, running_slot, stage
from drivers.image.tools import BuildFailure
from drivers.image_port import IMAGES, KEY, RESTART, booted
from drivers.join.boot import CMDLINE, one_line, words

STAGE_S_MAX = 1_800
SPENT = ("token", "image", "slot")
"""Words of this one boot; the others are kept for boots from the disk."""


def slot() -> int:
    """After joining: put the image that runs into a slot and make it good, so that this machine boots by itself."""
    machine, ours = booted(), find_disk()
    if not machine.image or ours is None or running_slot() is not None:
        return 0
    found = words(one_line(CMDLINE, "the kernel command line", 8 << 10))
    kept = {f"moxie.{key}": value for key, value in found.items() if key not in SPENT}
    with locked():
        ours.write_words(node_cfg(kept))
        if ours.image_in(ours.choice().good) == machine.image:
            return 0
        servers = (machine.server,) if machine.server else ()
        what = Staging(image=machine.image, servers=servers, images=IMAGES, key=KEY, seconds=STAGE_S_MAX)
        outcome = stage(what, ours, None)
        if outcome.slot in ours.slots:
            ours.keep("a" if outcome.slot == "a" else "b")
    print(f"moxie: image {machine.image} in slot {outcome.slot or 'none'} {outcome.detail}")
    return 1 if outcome.failed else 0


def settle() -> int:
    """Ten minutes after a boot: a trial that nobody kept restarts into the slot that has proven itself."""
    running, ours = running_slot(), find_disk()
    if running is None or ours is None or ours.choice().good == running:
        return 0
    print(f"moxie: slot {running} was not kept: restarting into slot {ours.choice().good}")
    _call(*RESTART)
    return 0


def _call(*argv: str) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BuildFailure(f"{' '.join(argv)}: {done.stderr.strip()[-500:]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Do one of the two; an exit code, never a traceback."""
    parser = argparse.ArgumentParser(prog="install", allow_abbrev=False)
    parser.add_argument("what", choices=("slot", "settle"))
    what = parser.parse_args(argv).what
    try:
        return slot() if what == "slot" else settle()
    except InputError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except (BuildFailure, SlotFailure, OSError) as error:
        print(f"moxie: {what}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
