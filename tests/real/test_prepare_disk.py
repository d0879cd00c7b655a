"""A disk that the rack gave to a machine: a blank one is prepared, one of ours is used, any other is left alone."""

import fcntl
import subprocess
from pathlib import Path

import pytest

from core.errors import InputError
from drivers.image.disk import MIB, disk_bytes
from drivers.image.partitions import partitions
from drivers.image.prepare_disk import alone, prepare_disk
from drivers.image.prepare_disk import disk as prepare_named_disk
from tests.real.require import require
from tests.real.slot_disk import PROGRAMS, SLOT_MB, a_loader, opened

pytestmark = pytest.mark.real


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    require(*PROGRAMS, root=False)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(disk_bytes(SLOT_MB, 3 * SLOT_MB))
    return disk


def test_a_blank_disk_is_prepared_and_ours_from_then_on(blank: Path, tmp_path: Path) -> None:
    loader = a_loader(tmp_path)
    told = prepare_disk(blank, loader, SLOT_MB)
    assert (told.ready, f"prepared, {SLOT_MB} MB for each slot, {3 * SLOT_MB} MB for state" in told.text) == (
        True,
        True,
    )
    assert opened(blank).choice().boots == "a"
    before = blank.read_bytes()
    assert prepare_disk(blank, loader, SLOT_MB).text.endswith("is ours")
    assert blank.read_bytes() == before


@pytest.mark.parametrize("kind", ["ext4", "a byte at its end", "a partition table", "an encrypted volume"])
def test_a_disk_with_anything_on_it_is_left_alone(blank: Path, tmp_path: Path, kind: str) -> None:
    size = blank.stat().st_size
    if kind == "ext4":
        subprocess.run(("mke2fs", "-q", "-F", str(blank)), check=True)
    elif kind == "a partition table":
        subprocess.run(("sfdisk", "--quiet", str(blank)), input=b"label: dos\n,10M\n", check=True)
    else:
        with blank.open("r+b") as file:
            file.seek(size - 1 if kind == "a byte at its end" else 0)
            file.write(b"LUKS" if kind == "an encrypted volume" else b"\1")
    before = blank.read_bytes()
    told = prepare_disk(blank, a_loader(tmp_path), SLOT_MB)
    assert (told.ready, "holds something that is not ours: left alone" in told.text) == (False, True)
    assert blank.read_bytes() == before


def test_a_disk_that_is_too_small_is_left_alone(tmp_path: Path) -> None:
    require(*PROGRAMS, root=False)
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(100 * MIB)
    told = prepare_disk(disk, a_loader(tmp_path), SLOT_MB)
    assert (told.ready, "100 MB are too few" in told.text) == (False, True)


def test_a_preparation_that_was_cut_off_is_done_again(blank: Path, tmp_path: Path) -> None:
    loader = a_loader(tmp_path)
    prepare_disk(blank, loader, SLOT_MB)
    state = partitions(blank)["moxie-state"]
    with blank.open("r+b") as file:
        file.seek(state.offset)
        file.write(bytes(1 << 20))  # the last filesystem did not reach the disk
    told = prepare_disk(blank, loader, SLOT_MB)
    assert (told.ready, "prepared" in told.text) == (True, True)
    assert prepare_disk(blank, loader, SLOT_MB).text.endswith("is ours")


def test_nobody_else_reads_the_partitions_of_a_disk_while_one_is_mounted(blank: Path) -> None:
    """As udev asks for it: a lock that it does not get, and so leaves the disk as it is."""
    with blank.open("rb") as udev:
        with alone(blank), pytest.raises(BlockingIOError):
            fcntl.flock(udev, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(udev, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_word_that_names_no_disk_is_refused(tmp_path: Path) -> None:
    line = tmp_path / "cmdline"
    line.write_text("quiet moxie.disk=/etc/passwd moxie.node=n6\n")
    with pytest.raises(InputError, match=r"moxie.disk=/etc/passwd: allowed: a disk such as /dev/sda"):
        prepare_named_disk(line)
    line.write_text("quiet moxie.node=n6\n")
    prepare_named_disk(line)
