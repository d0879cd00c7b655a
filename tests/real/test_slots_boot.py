"""A disk that we wrote boots: in an emulated machine GRUB tries a new slot once, and comes back to the good one.

The kernels are five bytes of machine code in Linux's clothes, so that nothing has to be built: one resets its machine,
as an image does that dies; the other one stays.
"""

import random
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.ids import ImageId
from drivers.image.disk import disk_bytes, prepare
from drivers.image.grub import make_loader
from drivers.image.stage import Outcome, Staging, stage
from tests.real.require import require
from tests.real.slot_disk import PROGRAMS, SLOT_MB, STATE_MB, Choice, opened, signed

pytestmark = [pytest.mark.real, pytest.mark.slow]

GRUB = Path("/usr/lib/grub/i386-pc/boot.img")
SECONDS_MAX = 180
DIES, STAYS = bytes.fromhex("b0fee664f4"), bytes.fromhex("f4ebfd")
"""``mov al, 0xfe; out 0x64, al; hlt``: the keyboard controller resets the machine. ``hlt``, again and again."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a disk that boots nothing yet."""
    require("qemu-system-x86_64", "grub-mkimage", *PROGRAMS, root=False)
    if not GRUB.is_file():
        pytest.fail("not installed: grub-pc-bin, though grub-mkimage is")
    for name in ("work", "work2"):
        (tmp_path / name).mkdir()
    make_loader(Path("/"), Path("/"), tmp_path / "loader", tmp_path / "work")
    with (tmp_path / "disk").open("wb") as file:
        file.truncate(disk_bytes(SLOT_MB, STATE_MB))
    prepare(tmp_path / "disk", tmp_path / "loader", SLOT_MB, STATE_MB, tmp_path / "work2")
    return tmp_path


def kernel(code: bytes) -> bytes:
    """A kernel that is this code: what a boot loader looks at, and nothing else.

    Source: Linux, Documentation/x86/boot.rst, protocol 2.04; loaded at 1 MiB and entered in 32-bit protected mode.
    """
    head = bytearray(2 * 512)
    struct.pack_into("<B", head, 0x1F1, 1)  # sectors of the head beside the first
    struct.pack_into("<H", head, 0x1FE, 0xAA55)
    struct.pack_into("<H4sH", head, 0x200, 0x66EB, b"HdrS", 0x0204)
    struct.pack_into("<BHI", head, 0x211, 1, 0, 0x100000)
    struct.pack_into("<I", head, 0x22C, 0x37FFFFFF)
    return bytes(head) + code.ljust(4_096, b"\xf4")


def an_image(place: Path, version: str, code: bytes) -> ImageId:
    """Make an image whose kernel is this code."""
    draw = random.Random(version)
    files = {"vmlinuz": kernel(code), "initrd.img": draw.randbytes(10_000), "root.squashfs": draw.randbytes(100_000)}
    return signed(place / "images", version, files)


def put(place: Path, image: ImageId, running: str | None) -> str:
    """Stage an image; the slot it went to."""
    key = place / "images/keys/images.pub"
    what = Staging(image=image, servers=(), images=place / "images", key=key, seconds=60)
    outcome = stage(what, opened(place / "disk"), "a" if running == "a" else "b" if running == "b" else None)
    assert outcome == Outcome(slot=outcome.slot)
    return outcome.slot


@contextmanager
def machine(place: Path) -> Iterator[Path]:
    """A machine that boots from the disk; what it writes on its serial console."""
    console = place / "console"
    console.unlink(missing_ok=True)
    command = [
        "nice",
        "-n",
        "5",
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-machine",
        "pc",
        "-cpu",
        "qemu64",
        "-m",
        "128",
    ]
    command += ["-nodefaults", "-display", "none", "-vga", "none", "-serial", f"file:{console}"]
    command += ["-drive", f"file={place / 'disk'},format=raw,if=virtio"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield console
    finally:
        child.kill()
        child.wait()


def booted(console: Path, count: int) -> list[str]:
    """The slots that were booted, as soon as there are so many. Raises: AssertionError if there are not in time."""
    end = time.monotonic() + SECONDS_MAX
    found: list[str] = []
    while len(found) < count:
        assert time.monotonic() < end, console.read_text(errors="replace")
        text = console.read_text(errors="replace") if console.exists() else ""
        found = [part[:1] for part in text.split("moxie: booting slot ")[1:]]
        time.sleep(0.2)
    return found


def test_a_new_image_that_dies_is_tried_once_and_the_old_one_boots(place: Path) -> None:
    old, new = an_image(place, "old", STAYS), an_image(place, "new", DIES)
    assert put(place, old, None) == "b"
    opened(place / "disk").keep("b")
    assert put(place, new, "b") == "a"
    opened(place / "disk").try_once("a")
    with machine(place) as console:
        assert booted(console, 2)[:2] == ["a", "b"]
    assert opened(place / "disk").choice() == Choice(good="b", next="a", tries=0)
    opened(place / "disk").keep("a")
    with machine(place) as console:
        assert booted(console, 2)[:2] == ["a", "a"]


def test_a_slot_that_is_half_written_is_passed_over(place: Path) -> None:
    old = an_image(place, "old", STAYS)
    put(place, old, None)
    disk = opened(place / "disk")
    disk.keep("b")
    disk.try_once("a")  # nothing was ever written there
    with machine(place) as console:
        assert booted(console, 1)[0] == "b"
