"""A hardened root as a squashfs, measured by the command; and its firewall on a real wire."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.image.hardening import KERNEL_WORDS, OVERLAY, lay_over
from drivers.image.manifest import BOOT_FILES, Manifest, describe, write_manifest
from tests.real.netns import PORT, Wire
from tests.real.require import require

pytestmark = pytest.mark.real

OPEN = """
import sys
from pathlib import Path
from drivers.config import Config, NetbootTable, NodeTables
from drivers.firewall import open_doors
from drivers.inventory import Machines
from formats.catalog import load_catalog
place = Path(sys.argv[1])
netboot = NetbootTable(interface="eth0", images=place, image="0" * 16, ca=place, join_port=9443)
tables = NodeTables(node="n1", inventory=place, catalog=place, state_dir=place, run_dir=place, netboot=netboot)
catalog, machines = load_catalog(place / "catalog.toml"), Machines({})
config = Config(file=place, tables=tables, timing=None, catalog=catalog, machines=machines)
print(open_doors(config))
"""


def image(folder: Path, root: Path, words: tuple[str, ...] = KERNEL_WORDS) -> Path:
    """Pack a root into an image folder, with nothing to boot beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["mksquashfs", root, folder / "root.squashfs", "-quiet", "-no-progress", "-all-root"], check=True)
    for name in ("vmlinuz", "initrd.img"):
        (folder / name).touch()
    files = describe(folder, BOOT_FILES)
    write_manifest(folder, Manifest(format=1, profile="minimal", version="1", cmdline=" ".join(words), files=files))
    return folder


def harden(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``rack image harden``."""
    command = (sys.executable, "-m", "drivers.cli", "image", "harden", str(folder))
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The least that a hardened image has."""
    require("mksquashfs", "unsquashfs", "systemd-analyze", "nft")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/shadow").write_text("root:x:19000:0:99999:7:::\n")
    system = root / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (system / "nftables.service").write_text("[Service]\nType=oneshot\nExecStart=/usr/sbin/nft -f /etc/nftables.conf\n")
    lay_over(root)
    return root


def test_a_hardened_root_passes_and_one_that_lost_something_does_not(root: Path, tmp_path: Path) -> None:
    done = harden(image(tmp_path / "image", root))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "moxie.service: exposure" in done.stdout
    assert "all 1 accounts are locked" in done.stdout
    program = root / "etc/su"
    program.touch()
    program.chmod(0o4755)
    unit = root / "etc/systemd/system/moxie.service"
    unit.write_text(unit.read_text().replace("NoNewPrivileges=yes\n", "").replace("SystemCallFilter=", "#"))
    done = harden(image(tmp_path / "image", root, KERNEL_WORDS[1:]))
    assert done.returncode == 1
    for said in (
        "set-user or set-group programs: 1: /etc/su",
        "moxie.service: says nothing of NoNewPrivileges, SystemCallFilter",
        f"command line: without {KERNEL_WORDS[0]}",
    ):
        assert said in done.stdout, done.stdout


def test_what_is_no_image_is_said_so(tmp_path: Path) -> None:
    require("unsquashfs", root=False)
    for words in ((str(tmp_path),), (str(tmp_path / "nothing"), "--checker", "/nothing")):
        command = (sys.executable, "-m", "drivers.cli", "image", "harden", *words)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert "cannot be read" in done.stderr


@pytest.fixture
def wire() -> Iterator[Wire]:
    require("ip", "nft")
    wire = Wire("node", "client")
    wire.run("node", "serve", "node")
    yield wire
    wire.close()


def test_a_port_is_closed_until_the_nodes_own_configuration_has_a_service_on_it(wire: Wire, tmp_path: Path) -> None:
    client = wire.run("client", "call")
    assert client.ask("10.254.0.1") == "node"
    wire.tables("node", "-f", str(OVERLAY / "etc/nftables.conf"))
    assert client.ask("10.254.0.1") == ""
    (tmp_path / "catalog.toml").write_text(
        f'name = "one"\n[[service]]\nname = "s"\nrun = "everywhere"\nhealth = {{ kind = "tcp", port = {PORT} }}\n'
    )
    command = ("ip", "netns", "exec", wire.nodes["node"], sys.executable, "-c", OPEN, str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stderr
    assert client.ask("10.254.0.1") == "node"
    rules = wire.tables("node", "list", "table", "inet", "firewall")
    assert 'elements = { "eth0" }' in rules
    assert "elements = { 8080, 9443 }" in rules
    wire.tables("node", "-f", str(OVERLAY / "etc/nftables.conf"))
    assert client.ask("10.254.0.1") == "", "loading the rules again closes what nobody opened since"
