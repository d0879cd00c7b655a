"""The two slots of a machine's disk: writing an image into the one that does not run, and choosing what boots.

A slot is a filesystem of its own, made anew at each writing, and read back before anything may boot from it. The order
makes a power cut harmless at any moment: first the boot loader forgets the slot, then the slot is written and read
back, then the boot loader is told to try it.
"""

import hashlib
from pathlib import Path

from core.errors import InputError
from core.ids import NO_IMAGE, ImageId
from drivers.image import boot_choice
from drivers.image.boot_choice import Choice
from drivers.image.disk import BOOT_LABEL, SLOT_CFG, STATE_LABEL, slot_cfg, slot_label
from drivers.image.manifest import MANIFEST, SIGNATURE, read_manifest
from drivers.image.partitions import SLOTS, Partition, SlotName, partitions
from drivers.image.slot_filesystem import SlotFailure, digest_of, make, put_in_boot, read

MANIFEST_BYTES_MAX = 1 << 20
NODE_CFG = "grub/node.cfg"
TRIES = 1
"""Boots that a staged image gets before the boot loader goes back."""
SPACE_BYTES = 8 << 20
"""What the filesystem itself needs beside the files, generously."""


class Disk:
    """A disk with two slots. ``path``: the disk itself or a file that holds one."""

    def __init__(self, path: Path, parts: dict[str, Partition]) -> None:
        self.path = path
        self.boot = parts[BOOT_LABEL]
        self.slots = {slot: parts[slot_label(slot)] for slot in SLOTS}

    # -- what boots ----------------------------------------------------------------------------------------------------

    def choice(self) -> Choice:
        """What the boot loader does next. Raises: InputError."""
        return boot_choice.read(self.path, self.boot)

    def try_once(self, slot: SlotName) -> None:
        """Boot this slot next, once; after that the good one again. The good slot itself simply boots.

        Raises: InputError.
        """
        choice = self.choice()
        trial = None if slot == choice.good else slot
        new = Choice(good=choice.good, next=trial, tries=TRIES if trial is not None else 0)
        boot_choice.write(self.path, self.boot, new)

    def keep(self, slot: SlotName) -> None:
        """Boot this slot from now on. Raises: InputError."""
        boot_choice.write(self.path, self.boot, Choice(good=slot))

    def write_words(self, text: str) -> None:
        """Have the boot loader give every image these kernel words, as ``disk.node_cfg`` puts them; once is enough.

        Raises: SlotFailure.
        """
        put_in_boot(self.path, self.boot, NODE_CFG, text.encode())

    # -- what the slots hold -------------------------------------------------------------------------------------------

    def image_in(self, slot: SlotName) -> ImageId:
        """The image that a slot says it holds; NO_IMAGE if it holds none. Its files are not looked at."""
        part = self.slots[slot]
        try:
            manifest = read(self.path, part, MANIFEST, MANIFEST_BYTES_MAX)
        except SlotFailure:
            return NO_IMAGE
        return ImageId(hashlib.sha256(manifest).hexdigest()[:16]) if manifest else NO_IMAGE

    def slot_with(self, image: ImageId) -> SlotName | None:
        """The slot that says it holds an image; the good one if both do."""
        good = self.choice().good
        held = [slot for slot in sorted(SLOTS, key=lambda slot: slot != good) if self.image_in(slot) == image]
        return held[0] if held else None

    def spare(self, running: SlotName | None) -> SlotName:
        """The slot that may be written: not the one that runs, nor, for a netbooted machine, the good one."""
        kept = running if running is not None else self.choice().good
        return "b" if kept == "a" else "a"

    def write(self, slot: SlotName, folder: Path) -> None:
        """Put the verified image in ``folder`` into a slot, and read all of it back.

        Nothing boots from the slot before this has returned. Raises: SlotFailure; InputError if it is the good one, or
        the disk cannot be written.
        """
        choice = self.choice()
        if slot == choice.good:
            raise InputError([f"slot {slot} of {self.path}: is the one that boots; allowed: the other one"])
        part, names = self.slots[slot], (MANIFEST, SIGNATURE, *sorted(read_manifest(folder).files))
        need = sum((folder / name).stat().st_size for name in names) + SPACE_BYTES
        if need > part.bytes:
            text = f"the image needs {need >> 20} MB, slot {slot} has {part.bytes >> 20} MB"
            raise SlotFailure(f"{text}; needed: a smaller image, or a disk prepared with larger slots")
        boot_choice.write(self.path, self.boot, Choice(good=choice.good))
        extra = {SLOT_CFG: slot_cfg(folder).encode()}
        make(self.path, part, [folder / name for name in names], extra, slot_label(slot))
        self.check(slot, folder)

    def check(self, slot: SlotName, folder: Path) -> None:
        """Compare what a slot's disk gives back with the image in ``folder``. Raises: SlotFailure, InputError."""
        for name, entry in sorted(read_manifest(folder).files.items()):
            size, digest = digest_of(self.path, self.slots[slot], name)
            if size != entry.bytes or digest != entry.sha256:
                raise SlotFailure(f"slot {slot}: {name} does not read back as it was written")


def open_disk(path: Path) -> Disk | None:
    """The slots of a disk; None if it has none. Raises: InputError if it cannot be read."""
    parts = partitions(path)
    return Disk(path, parts) if {BOOT_LABEL, STATE_LABEL, *map(slot_label, SLOTS)} <= parts.keys() else None


def find_disk(folder: Path = Path("/sys/block")) -> Disk | None:
    """The disk of this machine that has our slots, the first by name; None if there is none."""
    for name in sorted(path.name for path in folder.glob("*") if (path / "device").exists()):
        try:
            disk = open_disk(Path("/dev") / name)
        except InputError:
            continue  # a drive without a medium, or one that is broken
        if disk is not None:
            return disk
    return None
