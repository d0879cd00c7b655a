"""A whole rack from a USB key: emulated machines only, nobody at a keyboard, and a power cut of the first server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.image import manifest
from tests.real.built_image import PROGRAMS
from tests.real.require import require
from tests.real.virtual_rack import ROOT, VirtualRack

pytestmark = [pytest.mark.real, pytest.mark.machines, pytest.mark.xdist_group("lab")]

NAME, FOLDER = "mxkey", Path("/var/lib/moxie-key-test")
BUILD_S_MAX = 1_800
UP_S_MAX = 3_600
BACK_S_MAX = 1_800
"""Bounds, not expectations: a machine that is emulated beside other work has been ten times as slow as one alone."""


@pytest.fixture(scope="module")
def key_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of profile hyperconverged with its ``disk.img``, or the one in ``MOXIE_KEY_IMAGE``."""
    require(*PROGRAMS, "mcopy", "mke2fs", "sfdisk")
    if given := os.environ.get("MOXIE_KEY_IMAGE"):
        return Path(given)
    folder = tmp_path_factory.mktemp("key")
    private, _ = manifest.make_keys(folder)
    words = ("--profile", "hyperconverged", "--disk", "--state-mb", "8192", "--compress", "lz4", "--key", str(private))
    argv = (sys.executable, "-m", "drivers.cli", "image", "build", *words, "--out", str(folder / "image"))
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    return folder / "image"


@pytest.fixture(scope="module")
def rack(key_image: Path) -> Iterator[VirtualRack]:
    """A rack that began from a key and has found, booted and admitted a dark machine."""
    rack = VirtualRack(NAME, FOLDER)
    rack.down()
    try:
        words = ("--machines", "1", "--from-key", "--image", str(key_image), "--keep")
        done = rack.lab("up", *words, seconds=UP_S_MAX)
        assert done.returncode == 0, f"{done.stderr[-3_000:]}\n{rack.console('m1')[-3_000:]}"
        print(done.stderr)
        yield rack
    finally:
        rack.down()


def boot_of(rack: VirtualRack, node: str) -> str:
    """Under which boot a node is a member; "" while it is none."""
    found = rack.status().get("nodes", {}).get(node, {})
    return str(found.get("boot_id", "")) if found.get("member") and found.get("state") == "joined" else ""


def test_a_key_and_nothing_else_makes_a_rack_that_a_dark_machine_joins(rack: VirtualRack) -> None:
    rack.until(lambda: boot_of(rack, "n1") and boot_of(rack, "n2"), 300, "both nodes are members")
    console = rack.console("m1")
    assert "beginning a rack as moxie/first-server.toml says" in console
    assert "[FAILED]" not in console


def test_the_first_server_comes_back_from_a_power_cut_by_itself_and_with_its_records(rack: VirtualRack) -> None:
    before, began = boot_of(rack, "n1"), rack.console("m1").count("beginning a rack")
    machines = rack.status()["nodes"].keys()
    assert rack.lab("machine", "kill", "m1").returncode == 0
    assert rack.lab("machine", "on", "m1").returncode == 0
    rack.until(lambda: boot_of(rack, "n1") not in ("", before), BACK_S_MAX, "n1 is a member again, under another boot")
    assert rack.status()["nodes"].keys() == machines
    assert rack.console("m1").count("beginning a rack") == began, "it began another rack instead of going on"
    rack.until(lambda: boot_of(rack, "n2"), BACK_S_MAX, "n2 is a member still, or again")


def test_nothing_is_left_of_it(rack: VirtualRack) -> None:
    assert rack.down().returncode == 0
    assert rack.left() == []
