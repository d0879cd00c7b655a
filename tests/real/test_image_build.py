"""An image as it was built: complete, runnable, the same bytes each time, and a disk with it boots."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivers.image import manifest as images
from drivers.image.manifest import image_id, read_manifest, verify
from drivers.image.python_tree import PACKAGES, REQUIRED
from tests.real.built_image import built_image  # noqa: F401 - a fixture
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("lab")]

ROOT = Path(__file__).parents[2]
BUILD_S_MAX, BOOT_S_MAX = 1_800, 400
IMPORTS = ("kazoo.client", "pyghmi.ipmi.command", "pyroute2", "dbus_fast.aio", "prometheus_client", "msgspec")


@pytest.fixture(scope="module")
def unpacked(built_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811 - the fixture
    """The root of the image, to look at and to run programs in."""
    root = tmp_path_factory.mktemp("unpacked") / "root"
    subprocess.run(["unsquashfs", "-q", "-n", "-d", root, built_image / images.ROOT], check=True, capture_output=True)
    return root


def public(image: Path) -> Path:
    given = image.parent / images.PUBLIC_KEY
    return given if given.is_file() else image.parent / "keys" / images.PUBLIC_KEY


def test_the_image_is_complete_signed_and_as_small_as_promised(built_image: Path) -> None:  # noqa: F811
    assert verify(built_image, public(built_image)) == image_id(built_image)
    files = read_manifest(built_image).files
    assert sum(files[name].bytes for name in images.BOOT_FILES) < 150_000_000
    assert {images.PACKAGES, images.SBOM} <= files.keys()


def test_the_bill_of_materials_lists_every_installed_package(built_image: Path, unpacked: Path) -> None:  # noqa: F811
    status = (unpacked / "var/lib/dpkg/status").read_text()
    names = {line.partition(" ")[2] for line in status.splitlines() if line.startswith("Package: ")}
    document = json.loads((built_image / images.SBOM).read_text())
    listed = {one["name"] for one in document["packages"]}
    assert names <= listed
    assert {*REQUIRED} <= {name.lower().replace("_", "-") for name in listed}
    assert any(name.startswith("linux-image-") for name in listed)


def test_the_command_rack_and_every_library_run_in_the_image(unpacked: Path) -> None:
    """With Debian's own Python, without compiling anything, and without what the building machine has installed."""
    done = subprocess.run(["chroot", unpacked, "/usr/bin/rack", "--help"], capture_output=True, text=True, check=True)
    assert "supervisor" in done.stdout
    words = f"import {', '.join((*IMPORTS, 'drivers.agent', 'drivers.supervisor', 'drivers.join.client'))}"
    subprocess.run(
        ["chroot", unpacked, "/usr/lib/moxie/bin/python3", "-B", "-c", words], check=True, capture_output=True
    )
    for package in PACKAGES:
        sources = sorted((unpacked / "usr/lib/moxie" / package).rglob("*.py"))
        assert sources
        for source in sources:
            compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
            assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", f"{source}: not by hash without a check"


def test_nothing_of_the_building_machine_is_in_the_image(unpacked: Path) -> None:
    assert (unpacked / "etc/machine-id").read_bytes() == b""
    assert not list(unpacked.glob("var/log/*"))
    assert not list(unpacked.glob("etc/resolv.conf"))
    assert not list(unpacked.glob("etc/ssh/*"))
    newest = max(path.lstat().st_mtime for path in unpacked.rglob("*"))
    assert newest == min(path.lstat().st_mtime for path in unpacked.rglob("*"))


@pytest.mark.hard
def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    """Two builds that share nothing but the sources: packages are fetched and installed twice."""
    require("mmdebstrap", "mksquashfs", "sfdisk", "mformat", "mke2fs")
    tree = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    private, _ = images.make_keys(tmp_path / "keys")
    digests = []
    for name in ("one", "other"):
        words = ("--fresh", "--disk", "--state-mb", "64", "--cache", str(tmp_path / f"cache-{name}"))
        argv = (sys.executable, "-m", "drivers.cli", "image", "build", "--out", str(tmp_path / name), *words)
        done = subprocess.run(
            (*argv, "--key", str(private)),
            cwd=tree,
            env={"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=BUILD_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3_000:]
        digests.append({path.name: images.digest(path) for path in (tmp_path / name).iterdir()})
    assert {images.DISK, images.ROOT, images.INITRD, images.SIGNATURE} <= digests[0].keys()
    assert digests[0] == digests[1]


@pytest.mark.hard
def test_a_disk_with_the_image_boots_without_a_network(built_image: Path, tmp_path: Path) -> None:  # noqa: F811
    require("qemu-system-x86_64", "sfdisk", "mformat", "mke2fs", "grub-mkimage")
    from drivers.image.disk import write_disk

    image = tmp_path / "image"
    shutil.copytree(built_image, image, ignore=shutil.ignore_patterns(images.DISK))
    loader = tmp_path / "loader"
    subprocess.run(
        ["unsquashfs", "-q", "-n", "-d", loader, image / images.ROOT, "usr/lib/moxie/boot"],
        check=True,
        capture_output=True,
    )
    disk = write_disk(image, loader / "usr/lib/moxie/boot", 512, 64, tmp_path)
    said = console_of(disk, tmp_path, until="moxie: starting systemd")
    for line in ("booting slot a", "root image from slot a", "checked root image", "state on "):
        assert f"moxie: {line}" in said, said[-3_000:]


def console_of(disk: Path, folder: Path, until: str) -> str:
    """What a machine that boots from a disk says, until it says a certain thing; then it is switched off."""
    console = folder / "console.log"
    argv = ("qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-display", "none", "-vga", "none", "-nodefaults")
    drive = ("-drive", f"file={disk},format=raw,if=virtio", "-serial", f"file:{console}", "-no-reboot")
    machine = subprocess.Popen((*argv, *drive), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + BOOT_S_MAX
    try:
        while time.monotonic() < end and machine.poll() is None:
            if console.is_file() and until in console.read_text(errors="replace"):
                break
            time.sleep(0.2)
        return console.read_text(errors="replace") if console.is_file() else ""
    finally:
        machine.kill()
        machine.wait()
