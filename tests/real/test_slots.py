"""Slots on a disk in a file: staged, tried, kept, taken back; and a power cut at any moment leaves the old one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from core.ids import NO_IMAGE, ImageId
from drivers.image.boot_choice import Choice
from drivers.image.slot_filesystem import SlotFailure
from drivers.image.stage import Outcome, Staging, stage
from tests.real.require import require
from tests.real.slot_disk import PROGRAMS, a_disk, an_image, boots, installed, opened

pytestmark = pytest.mark.real
BLOCK = 4_096


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ImageId, ImageId]:
    """A disk that boots an old image, the folder of images, the old and the new one."""
    require(*PROGRAMS, root=False)
    folder = tmp_path_factory.mktemp("slots")
    images = folder / "images"
    old, new = an_image(images, "old"), an_image(images, "new")
    disk = a_disk(folder)
    installed(disk, images, old)
    return disk, images, old, new


@pytest.fixture
def disk(made: tuple[Path, Path, ImageId, ImageId], tmp_path: Path) -> Path:
    copy = tmp_path / "disk"
    subprocess.run(("cp", "--sparse=always", str(made[0]), str(copy)), check=True)
    return copy


def staging(images: Path, image: ImageId) -> Staging:
    return Staging(image=image, servers=(), images=images, key=images / "keys/images.pub", seconds=20)


def test_an_image_is_staged_tried_once_and_kept(made: tuple[Path, Path, ImageId, ImageId], disk: Path) -> None:
    _, images, old, new = made
    assert stage(staging(images, new), opened(disk), "b") == Outcome(slot="a")
    assert boots(disk, images) == ("b", old)
    opened(disk).try_once("a")
    assert boots(disk, images) == ("a", new)
    assert boots(disk, images) == ("b", old)  # nobody kept it: the trial is used up
    opened(disk).try_once("a")
    assert boots(disk, images) == ("a", new)
    opened(disk).keep("a")
    assert boots(disk, images) == ("a", new)


def test_staging_what_a_slot_holds_already_writes_nothing(
    made: tuple[Path, Path, ImageId, ImageId], disk: Path
) -> None:
    _, images, _, new = made
    stage(staging(images, new), opened(disk), "b")
    before = disk.read_bytes()
    assert stage(staging(images, new), opened(disk), "b") == Outcome(slot="a")
    assert disk.read_bytes() == before


def test_a_slot_that_rotted_is_written_again(made: tuple[Path, Path, ImageId, ImageId], disk: Path) -> None:
    _, images, _, new = made
    stage(staging(images, new), opened(disk), "b")
    content = disk.read_bytes()
    at = content.rindex((images / new / "root.squashfs").read_bytes()[1 << 20 : (1 << 20) + 64])
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(b"rotten")
    with pytest.raises(SlotFailure, match=r"root.squashfs does not read back"):
        opened(disk).check("a", images / new)
    assert stage(staging(images, new), opened(disk), "b") == Outcome(slot="a")
    opened(disk).check("a", images / new)


def test_the_good_slot_is_never_written(made: tuple[Path, Path, ImageId, ImageId], disk: Path) -> None:
    _, images, old, new = made
    with pytest.raises(InputError, match=r"slot b of .*: is the one that boots"):
        opened(disk).write("b", images / new)
    assert stage(staging(images, new), opened(disk), None) == Outcome(slot="a")  # booted from the network
    assert boots(disk, images) == ("b", old)


def test_an_image_that_was_tampered_with_is_refused_before_anything_is_written(
    made: tuple[Path, Path, ImageId, ImageId], disk: Path, tmp_path: Path
) -> None:
    _, images, _, new = made
    mine = tmp_path / "images"
    shutil.copytree(images, mine)
    root = mine / new / "root.squashfs"
    root.write_bytes(root.read_bytes()[:-1] + b"x")
    before = disk.read_bytes()
    outcome = stage(staging(mine, new), opened(disk), "b")
    assert (outcome.failed, "root.squashfs: was tampered with" in outcome.detail) == ("refused", True)
    assert disk.read_bytes() == before


def test_an_image_that_does_not_fit_leaves_the_disk_alone(
    made: tuple[Path, Path, ImageId, ImageId], disk: Path
) -> None:
    _, images, _, _ = made
    large = an_image(images, "large", 45 << 20)
    before = disk.read_bytes()
    outcome = stage(staging(images, large), opened(disk), "b")
    assert (outcome.failed, "slot a has 48 MB" in outcome.detail) == ("failed", True)
    assert disk.read_bytes() == before


def test_a_power_cut_at_any_write_of_a_slot_leaves_the_old_image_booting(
    made: tuple[Path, Path, ImageId, ImageId], disk: Path, tmp_path: Path
) -> None:
    """Whatever blocks of the slot reached the disk by then, in whatever order: nothing else changes or boots it."""
    _, images, old, new = made
    before = disk.read_bytes()
    assert stage(staging(images, new), opened(disk), "b") == Outcome(slot="a")
    after = disk.read_bytes()
    part = opened(disk).slots["a"]
    assert before[: part.offset] == after[: part.offset]
    assert before[part.offset + part.bytes :] == after[part.offset + part.bytes :]
    blocks = [
        at
        for at in range(part.offset, part.offset + part.bytes, BLOCK)
        if before[at : at + BLOCK] != after[at : at + BLOCK]
    ]
    assert len(blocks) > 500
    draw, cut = random.Random(7), tmp_path / "cut"
    for share in (0.0, 0.001, 0.1, 0.5, 0.9, 0.999, 1.0):
        content = bytearray(before)
        for at in draw.sample(blocks, int(len(blocks) * share)):
            torn = draw.choice((512, 2_048, BLOCK))
            content[at : at + torn] = after[at : at + torn]
        cut.write_bytes(content)
        assert boots(cut, images) == ("b", old)
        assert stage(staging(images, new), opened(cut), "b") == Outcome(slot="a")  # and it can be staged again
        opened(cut).try_once("a")
        assert boots(cut, images) == ("a", new)


def test_a_power_cut_between_the_steps_boots_the_old_image_or_a_whole_new_one(
    made: tuple[Path, Path, ImageId, ImageId], disk: Path
) -> None:
    """A trial that was armed for what the slot held before is forgotten before the slot is written."""
    _, images, old, new = made
    slots = opened(disk)
    stage(staging(images, new), slots, "b")
    slots.try_once("a")
    third = an_image(images, f"third-{disk.parent.name}")
    stage(staging(images, third), slots, "b")
    assert slots.choice() == Choice(good="b")
    assert boots(disk, images) == ("b", old)


def test_a_staging_that_is_killed_at_any_moment_leaves_the_old_image_booting(
    made: tuple[Path, Path, ImageId, ImageId], disk: Path
) -> None:
    _, images, old, new = made
    argv = [sys.executable, "-m", "drivers.image.stage", "--image", new, "--images", str(images), "--disk", str(disk)]
    argv += ["--key", str(images / "keys/images.pub"), "--seconds", "20"]
    begun = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    whole_s = time.monotonic() - begun
    interrupted = 0
    for number in range(12):
        other = an_image(images, f"killed-{number}-{disk.parent.name}")
        child = subprocess.Popen(
            [other if word == new else word for word in argv], stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            child.wait(timeout=whole_s * (number + 1) / 14)
        except subprocess.TimeoutExpired:
            interrupted += 1
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        assert boots(disk, images) == ("b", old)
    assert interrupted >= 6
    assert stage(staging(images, new), opened(disk), "b") == Outcome(slot="a")


def test_the_staging_process_says_its_outcome_on_one_line(
    made: tuple[Path, Path, ImageId, ImageId], disk: Path
) -> None:
    _, images, _, new = made
    argv = [sys.executable, "-m", "drivers.image.stage", "--image", new, "--images", str(images), "--disk", str(disk)]
    argv += ["--key", str(images / "keys/images.pub"), "--seconds", "20"]
    done = subprocess.run(argv, check=True, capture_output=True)
    assert msgspec.json.decode(done.stdout, type=Outcome).slot in ("a", "b")
    assert done.stdout.count(b"\n") == 1


def test_an_empty_slot_holds_no_image(made: tuple[Path, Path, ImageId, ImageId], disk: Path) -> None:
    assert opened(disk).image_in("a") == NO_IMAGE
