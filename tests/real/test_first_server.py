"""``rack init --first`` on a machine of its own: from a bare network card to a rack of one that answers."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.image.manifest import BOOT_FILES, Manifest, describe, make_keys, sign, write_manifest
from tests.real.netns import Wire
from tests.real.rack_on_loopback import wait_until
from tests.real.require import require
from tests.real.storage_rack import kill_below

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("first_server")]

SETTLED_S_MAX = 180
HOLD_67 = (
    "import socket,sys; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('0.0.0.0',67)); "
    "print('ready',flush=True); sys.stdin.read()"
)


@pytest.fixture
def wire() -> Iterator[Wire]:
    require("ip", "nft", "java", "dnsmasq", "ceph-mon", "ceph-mgr", "ceph-osd")
    wire = Wire("first")
    yield wire
    wire.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an image, a key and a password."""
    private, _ = make_keys(tmp_path / "keys")
    images = tmp_path / "images/any"
    images.mkdir(parents=True)
    for name in BOOT_FILES:
        (images / name).write_text(name)
    write_manifest(
        images, Manifest(format=1, profile="minimal", version="1", cmdline="", files=describe(images, BOOT_FILES))
    )
    sign(images, private)
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "catalog.toml").write_text('name = "bare"\n[[service]]\nname = "netboot"\nrun = "everywhere"\n')
    return tmp_path


def rack(wire: Wire, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``rack`` on the machine."""
    command = ("ip", "netns", "exec", wire.nodes["first"], sys.executable, "-m", "drivers.cli", *words)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL)


def first(wire: Wire, place: Path, **other: str) -> subprocess.CompletedProcess[str]:
    """Run ``rack init --first`` with good answers, or ``other`` ones."""
    told = {
        "boot": "10.254.0.0/24",
        "management": "10.254.1.0/24",
        "interface": "eth0",
        "bmc_password": str(place / "password"),
        "images": str(place / "images"),
        "image_key": str(place / "keys/images.pub"),
        "catalog": str(place / "catalog.toml"),
        "home": str(place / "etc"),
        "state": str(place / "state"),
        **other,
    }
    flags = [word for name, value in told.items() for word in ("--" + name.replace("_", "-"), value)]
    return rack(wire, "init", "--first", *flags)


def test_every_mistake_is_said_before_anything_is_made(wire: Wire, place: Path) -> None:
    (place / "password").chmod(0o644)
    done = first(wire, place, interface="eth9", boot="10.254.0.0/8", management="10.0.0.0/8")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for said in ("others may read it (mode 0644)", "no such network card", "did you mean", "4096 at most"):
        assert said in done.stderr, said
    done = first(wire, place, management="10.254.0.0/25", bmc_password=str(place / "nothing"))
    assert "overlaps --boot, 10.254.0.0/24" in done.stderr
    assert "cannot be read (no such file or directory)" in done.stderr
    (place / "password").chmod(0o600)
    done = first(wire, place, pool="10.254.0.1-10.254.0.250", gateway="10.9.9.9", install="sda")
    for said in ("is in boot.pool", "--gateway = ", "--install = "):
        assert said in done.stderr, done.stderr
    assert not (place / "etc").exists()
    assert not (place / "state").exists()


def test_a_dhcp_server_that_runs_already_is_named(wire: Wire, place: Path) -> None:
    command = ("ip", "netns", "exec", wire.nodes["first"], sys.executable, "-c", HOLD_67)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        done = first(wire, place)
        other.kill()
    assert done.returncode == 2
    assert "udp port 67 is taken by" in done.stderr
    assert f"(process {other.pid})" in done.stderr


def test_a_bare_machine_becomes_a_rack_of_one_and_again_changes_nothing(wire: Wire, place: Path) -> None:
    done = first(wire, place)
    assert done.returncode == 0, done.stderr
    assert "n1 at 10.254.0.1 is the first server" in done.stdout
    before = files(place)
    assert first(wire, place).returncode == 0
    assert files(place) == before
    run_dir = place / "run"
    config = place / "etc/node.toml"
    config.write_text(config.read_text().replace('"/run/moxie"', json.dumps(str(run_dir))))
    log = (place / "supervisor.log").open("wb")
    command = (sys.executable, "-m", "drivers.cli", "supervisor", "--config", str(config))
    supervisor = subprocess.Popen(
        ("ip", "netns", "exec", wire.nodes["first"], *command), stdout=log, stderr=log, stdin=subprocess.DEVNULL
    )
    try:
        operator = str(place / "state/rack/operator/operator.toml")
        seed = ("init", "--seed-records", "--config", operator)
        wait_until(lambda: rack(wire, *seed).returncode == 0, SETTLED_S_MAX, "the first records are written")
        wait_until(lambda: is_member(rack(wire, "status", "--config", operator)), SETTLED_S_MAX, "n1 is a member")
        wait_until(lambda: "1 of 1 monitor agree" in status(wire, operator), SETTLED_S_MAX, "its storage runs")
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(90)
        log.close()
        kill_below(place / "state")
    assert (place / "etc/first-server").exists(), "an ensemble of one may still begin here"


def status(wire: Wire, operator: str) -> str:
    """What ``rack status`` says."""
    return rack(wire, "status", "--config", operator).stdout


def is_member(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether ``rack status`` shows the whole rack of one."""
    return "1 of 1 nodes are members" in done.stdout


def files(place: Path) -> dict[str, bytes]:
    """What was made, without what Ceph writes into its own logs."""
    folders = (place / "etc", place / "state/rack", place / "state/images")
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
