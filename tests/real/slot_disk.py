"""A small disk with slots in a file, signed images to put there, and what its boot loader would do with it."""

import hashlib
import random
from pathlib import Path

import msgspec

from core.ids import ImageId
from drivers.image import grub
from drivers.image.boot_choice import Choice
from drivers.image.disk import disk_bytes, prepare
from drivers.image.manifest import BOOT_FILES, Manifest, describe, make_keys, sign, write_manifest
from drivers.image.partitions import SlotName
from drivers.image.slots import Disk, open_disk

SLOT_MB, STATE_MB = 48, 16
PROGRAMS = ("sfdisk", "mformat", "mcopy", "mmd", "mke2fs", "debugfs")


def an_image(images: Path, version: str, size: int = 3 << 20) -> ImageId:
    """Make and sign an image of random bytes in a folder of its id; keys lie beside it in ``images/keys``."""
    draw = random.Random(version)
    names = {name: size if name.startswith("root") else 70_000 for name in BOOT_FILES}
    return signed(images, version, {name: draw.randbytes(length) for name, length in names.items()})


def signed(images: Path, version: str, files: dict[str, bytes]) -> ImageId:
    """Make and sign an image of these files in a folder of its id; keys lie beside it in ``images/keys``."""
    keys = images / "keys"
    if not keys.exists():
        keys.mkdir(parents=True)
        make_keys(keys)
    folder = images / f"new-{version}"
    folder.mkdir()
    for name, content in {**files, "packages.txt": f"nothing {version}\n".encode()}.items():
        (folder / name).write_bytes(content)
    entries = describe(folder, (*files, "packages.txt"))
    made = Manifest(format=1, profile="minimal", version=version, cmdline="quiet panic=30", files=entries)
    write_manifest(folder, made)
    sign(folder, keys / "images.key")
    image = ImageId(hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:16])
    folder.rename(images / image)
    return image


def a_disk(folder: Path) -> Path:
    """Make a disk in a file: prepared, with empty slots. Its boot loader is made up: it is never run."""
    loader, work, disk = a_loader(folder), folder / "work", folder / "disk"
    work.mkdir()
    with disk.open("wb") as file:
        file.truncate(disk_bytes(SLOT_MB, STATE_MB))
    prepare(disk, loader, SLOT_MB, STATE_MB, work)
    return disk


def a_loader(folder: Path) -> Path:
    """Make a boot loader up that has the right sizes."""
    loader = folder / "loader"
    loader.mkdir()
    for name, content in {"boot.img": bytes(512), "core.img": bytes(40_000), "BOOTX64.EFI": b"MZ"}.items():
        (loader / name).write_bytes(content)
    (loader / "grub.cfg").write_bytes((Path(grub.__file__).parent / "grub.cfg").read_bytes())
    return loader


def opened(disk: Path) -> Disk:
    """The slots of a disk that has some."""
    found = open_disk(disk)
    assert found is not None
    return found


def installed(disk: Path, images: Path, image: ImageId) -> None:
    """Put an image into slot b and make it good, as the first installation does."""
    slots = opened(disk)
    slots.write("b", images / image)
    slots.keep("b")


def boots(disk: Path, images: Path) -> tuple[SlotName, ImageId]:
    """Boot once as ``grub.cfg`` does: which slot, and which image if all its files are whole. Counts a try down."""
    slots = opened(disk)
    choice = slots.choice()
    if choice.boots != choice.good:
        from drivers.image import boot_choice

        boot_choice.write(disk, slots.boot, msgspec.structs.replace(choice, tries=choice.tries - 1))
    slot = choice.boots
    image = slots.image_in(slot)
    slots.check(slot, images / image)
    return slot, image


__all__ = ["PROGRAMS", "Choice", "a_disk", "a_loader", "an_image", "boots", "installed", "opened", "signed"]
