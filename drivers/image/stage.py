"""Staging an image on this machine, as a process of its own: the agent must not wait for disks and networks.

It has the image here, verified, then puts it into the slot that does not run. Its one line of output is the outcome.
"""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from core.errors import InputError
from core.ids import ImageId
from drivers.image.fetch import NotFetched, fetch, look, prune
from drivers.image.partitions import SlotName
from drivers.image.slot_filesystem import SlotFailure
from drivers.image.slots import Disk, find_disk, open_disk

NICE = 10
WORK = Path("/run/moxie")
RUNNING = WORK / "slot"
"""The slot that this machine booted from; empty where it booted from the network."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. ``slot``: where the image lies now; "": this machine has no disk of ours."""

    slot: str = ""
    failed: Literal["", "refused", "unavailable", "failed"] = ""
    detail: str = ""


class Staging(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be staged. ``servers``: ``HOST:PORT`` each; ``key``: what images are signed with."""

    image: ImageId
    servers: tuple[str, ...]
    images: Path
    key: Path
    seconds: float


def stage(what: Staging, disk: Disk | None, running: SlotName | None) -> Outcome:
    """Have the image here and in a slot of ``disk`` that may be written; ``running``: the slot that runs.

    A machine without a disk of ours boots from the network: that the rack has the image, signed, is all it needs.
    """
    try:
        until_s = time.monotonic() + what.seconds
        if disk is None:
            look(what.image, what.servers, what.images, what.key, until_s)
            return Outcome()
        folder = fetch(what.image, what.servers, what.images, what.key, until_s)
        slot = disk.slot_with(what.image)
        if slot is not None and _is_whole(disk, slot, folder):
            return Outcome(slot=slot)
        slot = disk.spare(running)
        disk.write(slot, folder)
        prune(what.images, [what.image, *(disk.image_in(one) for one in disk.slots)])
        return Outcome(slot=slot)
    except NotFetched as error:
        return Outcome(failed="refused" if error.refused else "unavailable", detail=error.detail)
    except SlotFailure as error:
        return Outcome(failed="failed", detail=str(error))
    except InputError as error:
        return Outcome(failed="refused", detail="; ".join(error.problems))


def _is_whole(disk: Disk, slot: SlotName, folder: Path) -> bool:
    try:
        disk.check(slot, folder)
    except SlotFailure:
        return False
    return True


@contextmanager
def locked(folder: Path = WORK) -> Iterator[None]:
    """Let one process of this machine at a time write slots; where there is no such folder there is only one."""
    if not folder.is_dir():
        yield
        return
    with (folder / "stage.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def running_slot(path: Path = RUNNING) -> SlotName | None:
    """The slot that this machine booted from, None where it booted from the network."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return "a" if text == "a" else "b" if text == "b" else None


def main(argv: Sequence[str] | None = None) -> int:
    """Stage what the command line says and print the outcome as one line of JSON."""
    parser = argparse.ArgumentParser(prog="stage", allow_abbrev=False)
    parser.add_argument("--image", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--disk", type=Path)
    parser.add_argument("--server", action="append", default=[])
    given = parser.parse_args(argv)
    os.nice(NICE)
    what = Staging(
        image=ImageId(given.image),
        servers=tuple(given.server),
        images=given.images,
        key=given.key,
        seconds=given.seconds,
    )
    try:
        disk = open_disk(given.disk) if given.disk is not None else find_disk()
    except InputError as error:
        outcome = Outcome(failed="failed", detail="; ".join(error.problems))
    else:
        with locked():
            outcome = stage(what, disk, running_slot())
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
