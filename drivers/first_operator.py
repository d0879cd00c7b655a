"""What an operator's commands need, put on the key that the first server booted: nobody can log into that machine.

It goes where the answers came from, the folder ``moxie`` of the boot partition. The authority itself is on the same
key, so whoever holds the key learns nothing more by it.
"""

from pathlib import Path

from core.errors import InputError
from drivers.first_answers import RUNNING

FOLDER = "moxie"
"""On the boot partition: the answers, and then ``operator``."""


def hand_over(folder: Path, running: Path = RUNNING) -> bool:
    """Copy the operator's folder to the key; False where this machine runs no image of ours, or has no disk of ours.

    Raises: InputError if the disk takes nothing.
    """
    from drivers.image.slot_filesystem import SlotFailure, put_folder_in_boot
    from drivers.image.slots import find_disk

    disk = find_disk() if running.exists() else None
    if disk is None:
        return False
    try:
        put_folder_in_boot(disk.path, disk.boot, folder, FOLDER)
    except SlotFailure as error:
        raise InputError([f"{disk.path}: {error}; needed: the disk that this machine booted from"]) from None
    return True
