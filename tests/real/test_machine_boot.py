"""One machine end to end: found dark by its BMC, switched on over IPMI, booted from the network, joined by token."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.identity import same_machine
from drivers.lab.shell import NETNS
from tests.real.built_image import built_image  # noqa: F401 - a fixture
from tests.real.virtual_rack import ROOT, VirtualRack

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("lab")]

NAME, FOLDER = "mxboot", Path("/var/lib/moxie-boot-test")


@pytest.fixture(scope="module")
def booted(built_image: Path) -> Iterator[tuple[VirtualRack, str]]:  # noqa: F811 - the fixture that is imported
    """A rack of one native node and one machine that joined; what the command said on the way."""
    rack = VirtualRack(NAME, FOLDER)
    rack.down()
    try:
        done = rack.lab("up", "--machines", "1", "--image", str(built_image), "--keep")
        assert done.returncode == 0, f"{done.stderr[-3_000:]}\n{rack.console('m1')[-3_000:]}"
        yield rack, done.stderr
    finally:
        rack.down()


def test_the_first_node_finds_a_dark_machine_and_it_joins(booted: tuple[VirtualRack, str]) -> None:
    rack, said = booted
    assert "n2 found at 10.98.1.111:623" in said
    assert "all 1 machines joined" in said
    node = rack.status()["nodes"]["n2"]
    assert (node["state"], node["member"]) == ("joined", True)


def test_it_is_the_machine_that_its_bmc_says(booted: tuple[VirtualRack, str]) -> None:
    rack, _ = booted
    node, guest = rack.status()["nodes"]["n2"], rack.layout().guests[0]
    assert same_machine(node["guid"], guest.uuid)
    assert node["macs"] == [guest.mac]


def test_it_runs_the_image_that_was_signed(booted: tuple[VirtualRack, str], built_image: Path) -> None:  # noqa: F811
    from drivers.image.manifest import image_id

    assert booted[0].status()["nodes"]["n2"]["image"] == image_id(built_image)


def test_its_certificate_is_bound_to_its_name(booted: tuple[VirtualRack, str]) -> None:
    """Its agent shows it to whoever asks, and it is of the rack's own authority."""
    ca = FOLDER / "rack" / "ca" / "ca.pem"
    words = ("openssl", "s_client", "-connect", "10.98.0.2:8443", "-CAfile", str(ca), "-verify_return_error")
    inside = ("nsenter", f"--net={NETNS / f'{NAME}-client'}", *words)
    rack, _ = booted

    def answers() -> bool:
        done = subprocess.run(inside, input="", capture_output=True, text=True, timeout=60, check=False)
        return "CN = n2" in done.stdout and "Verify return code: 0" in done.stdout

    rack.until(answers, 180, "the boot service of n2 answers with the certificate of n2")


def test_what_runs_everywhere_runs_on_it(booted: tuple[VirtualRack, str]) -> None:
    rack, _ = booted
    rack.until(lambda: rack.status()["copies"]["netboot"] == ["n1", "n2"], 180, "netboot runs on both nodes")


def test_a_lab_that_is_up_is_not_begun_again(booted: tuple[VirtualRack, str], built_image: Path) -> None:  # noqa: F811
    done = booted[0].lab("up", "--machines", "1", "--image", str(built_image))
    assert done.returncode == 2
    assert "remedy: rack lab down" in done.stderr


def test_nothing_is_left_of_it(booted: tuple[VirtualRack, str]) -> None:
    rack, _ = booted
    assert rack.down().returncode == 0
    assert rack.left() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--machines", "0"), "from 1 to 9"),
        (("--machines", "3", "--image", "/no/such"), "/no/such: no such folder"),
        (("--machines", "9", "--memory", "65536"), "MiB are free"),
        (("--machines", "1", "--catalog", "catalog/lab.toml"), "services without volumes"),
        (("--machines", "1", "--from-one"), "do not go together"),
        (("--machines", "1", "--dir", "/var/lib/a,b"), "a comma in it"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(words: tuple[str, ...], said: str) -> None:
    argv = (sys.executable, "-m", "drivers.cli", "lab", "up", "--name", NAME, *words)
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert said in done.stderr


def test_an_image_that_was_tampered_with_is_named(built_image: Path, tmp_path: Path) -> None:  # noqa: F811
    for path in (*built_image.iterdir(), built_image.parent / "images.pub"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "vmlinuz").open("r+b") as kernel:
        kernel.seek(1_000)
        kernel.write(b"evil")
    done = VirtualRack(NAME, FOLDER).lab("up", "--machines", "1", "--image", str(tmp_path))
    assert (done.returncode, "vmlinuz" in done.stderr, FOLDER.exists()) == (2, True, False)
