"""The netboot service as a person and a rack see it: what it needs, what it survives, what firmware gets from it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.effects import AllowBoot
from core.events import AnyEvent
from core.ids import Guid, NodeId
from drivers.netboot.dnsmasq import BIOS, EFI, IPXE
from drivers.netboot.port import NetbootPort
from tests.real.boot_rack import BootRack
from tests.real.require import require
from tests.unit.boot_server import uuid_of

pytestmark = pytest.mark.real

MAC = "52:54:00:98:00:06"
WAIT_S = 15


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[BootRack]:
    require("dnsmasq", "ip")
    made = BootRack(tmp_path)
    yield made
    made.close()


class Agent:
    """The agent's end: a port, and all that was told through it."""

    def __init__(self, rack: BootRack) -> None:
        self.said: list[AnyEvent] = []
        self.port = NetbootPort(rack.config)
        self.port.begin(self.said.append)

    def allow(self, number: int, ms: int = 600_000) -> None:
        """Open a window for a node."""
        guid = Guid(uuid_of(number).replace("-", ""))
        self.port.submit(AllowBoot(node=NodeId(f"n{number}"), guid=guid, ms_max=ms), self.said.append)

    def stages(self) -> list[str]:
        """How far machines came."""
        return [getattr(event, "stage", "") for event in self.said]


@pytest.fixture
def agent(rack: BootRack) -> Iterator[Agent]:
    made = Agent(rack)
    yield made
    made.port.close()


def until(so: Callable[[], bool]) -> bool:
    """Wait for something to be so; whether it is."""
    end = time.monotonic() + WAIT_S
    while not (found := so()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(("words", "file"), [((), BIOS), (("efi",), EFI)])
def test_firmware_without_ipxe_gets_it_by_tftp_and_boots(
    rack: BootRack, agent: Agent, words: tuple[str, ...], file: str
) -> None:
    rack.start()
    agent.allow(6)
    assert until(lambda: _expects(rack, "n6"))
    came = rack.boot(uuid_of(6), MAC, *words)
    assert came.tftp == (IPXE / file).stat().st_size
    assert came.address == "10.98.0.6"
    assert came.words["moxie.ip"] == "10.98.0.6/24"
    assert came.root > 1_000_000


def test_two_machines_of_one_identity_get_two_addresses_and_one_script(rack: BootRack, agent: Agent) -> None:
    rack.start()
    agent.allow(6)
    assert until(lambda: _expects(rack, "n6"))
    first = rack.boot(uuid_of(6), MAC, "ipxe", "script")
    second = rack.boot(uuid_of(6), "52:54:00:98:00:66", "ipxe", "script")
    assert first.address == "10.98.0.6"
    assert second.address.startswith("10.98.0.2")
    assert "moxie.token" in first.words
    assert "asked twice" in second.script


def test_a_killed_service_goes_on_where_it_was(rack: BootRack, agent: Agent) -> None:
    rack.start()
    agent.allow(6)
    agent.allow(7)
    assert until(lambda: _expects(rack, "n7"))
    assert "moxie.token" in rack.boot(uuid_of(6), MAC, "ipxe", "script").words
    rack.stop(signal.SIGKILL)
    assert len(rack.dnsmasqs()) == 2  # they gave up being root, so the kernel did not kill them
    rack.start()
    assert len(rack.dnsmasqs()) == 2
    assert until(lambda: _expects(rack, "n7"))
    assert "asked twice" in rack.boot(uuid_of(6), MAC, "ipxe", "script").script
    assert "moxie.token" in rack.boot(uuid_of(7), "52:54:00:98:00:07", "ipxe", "script").words


def test_what_was_allowed_while_the_service_was_away_is_told_when_it_is_there(rack: BootRack, agent: Agent) -> None:
    agent.allow(6)
    rack.start()
    assert until(lambda: _expects(rack, "n6"))
    assert rack.boot(uuid_of(6), MAC, "ipxe").root > 0


def test_what_happens_while_no_agent_is_there_is_told_to_the_next(rack: BootRack) -> None:
    rack.start()
    first = Agent(rack)
    first.allow(6)
    assert until(lambda: _expects(rack, "n6"))
    first.port.close()
    assert until(lambda: '"agent_gone"' in rack.log.read_text(encoding="utf-8"))
    assert rack.boot(uuid_of(6), MAC, "ipxe").root > 0
    second = Agent(rack)
    assert until(lambda: second.stages() == ["offered", "script", "kernel", "image"])
    second.port.close()
    third = Agent(rack)
    assert until(lambda: rack.log.read_text(encoding="utf-8").count('"agent_here"') == 3)
    assert third.stages() == []
    third.port.close()


def test_a_killed_dnsmasq_is_started_again(rack: BootRack, agent: Agent) -> None:
    rack.start()
    agent.allow(6)
    assert until(lambda: _expects(rack, "n6"))
    before = rack.dnsmasqs()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: len(set(rack.dnsmasqs()) - set(before)) == 2)
    assert until(lambda: rack.boot(uuid_of(6), MAC).root > 0)


def test_it_ends_as_it_should_and_leaves_nothing_behind(rack: BootRack) -> None:
    rack.start()
    assert len(rack.dnsmasqs()) == 2
    assert rack.stop() == 0
    assert rack.dnsmasqs() == []
    assert not (rack.folder / "run" / "netboot.sock").exists()


def test_only_one_service_of_a_node_runs(rack: BootRack) -> None:
    rack.start()
    code, said = rack.refused()
    assert code == 2
    assert f"another netboot service of this node runs (process {rack.pid})" in said


@pytest.mark.parametrize("port", [67, 69])
def test_a_udp_port_that_somebody_has_is_named_with_the_process(rack: BootRack, port: int) -> None:
    other = ["--keep-in-foreground", "--port=0", "--conf-file=/dev/null", "--pid-file=", "--bind-interfaces"]
    other += ["--interface=boot0", "--user=root", f"--dhcp-leasefile={rack.folder}/other"]
    other += ["--dhcp-range=10.98.0.50,10.98.0.60"] if port == 67 else ["--enable-tftp", "--tftp-root=/tmp"]
    holder = rack.within("dnsmasq", *other)
    try:
        assert until(lambda: str(port) in _udp_ports(rack))
        code, said = rack.refused()
    finally:
        holder.kill()
        holder.wait()
    assert code == 2
    assert f"udp port {port} is taken by dnsmasq (process {holder.pid})" in said
    assert "Traceback" not in said


def test_an_http_port_that_somebody_has_is_named_with_the_process(rack: BootRack) -> None:
    holder = rack.within("socat", "TCP-LISTEN:8080,bind=10.98.0.1,fork", "EXEC:true")
    try:
        assert until(lambda: "8080" in _tcp_ports(rack))
        code, said = rack.refused()
    finally:
        holder.kill()
        holder.wait()
    assert code == 2
    assert f"http_port at 10.98.0.1: tcp port 8080 is taken by socat (process {holder.pid})" in said


def test_bad_input_is_said_in_a_sentence_and_exit_code_2(rack: BootRack) -> None:
    good = rack.file.read_text(encoding="utf-8")
    root = rack.folder / "images" / rack.image / "root.squashfs"
    whole = root.read_bytes()

    def said(old: str, new: str) -> str:
        assert old in good
        rack.file.write_text(good.replace(old, new), encoding="utf-8")
        code, text = rack.refused()
        rack.file.write_text(good, encoding="utf-8")
        assert (code, "Traceback" in text) == (2, False), text
        return text

    assert "no such interface; allowed: lo, boot0" in said('"boot0"', '"eth9"')
    assert "netboot.mode" in said("[netboot]", '[netboot]\nmode = "magic"')
    assert "netboot.image" in said(rack.image, "../../etc")
    assert "0123456789abcdef/manifest.json" in said(rack.image, "0123456789abcdef")
    assert "ca.pem" in said(f"{rack.folder}/rack/ca", f"{rack.folder}/nowhere")
    root.write_bytes(whole[:-1] + b"?")
    assert "root.squashfs" in said("boot0", "boot0")
    root.unlink()
    assert "root.squashfs" in said("boot0", "boot0")


def test_a_node_that_boots_nobody_stands_by_and_is_healthy(rack: BootRack) -> None:
    good = rack.file.read_text(encoding="utf-8")
    rack.file.write_text(good[: good.index("[netboot]")], encoding="utf-8")
    command, quiet = rack.command(), subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
    try:
        ask = [*command[:4], sys.executable, "-c", ASK_HEALTH]
        until = time.monotonic() + 30
        while subprocess.run(ask, check=False, capture_output=True).returncode and time.monotonic() < until:
            assert process.poll() is None
        assert b"boots nobody" in subprocess.run(ask, check=True, capture_output=True).stdout
    finally:
        process.terminate()
    assert process.wait(timeout=20) == 0


ASK_HEALTH = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=2).read())"


def test_without_root_it_says_so(rack: BootRack) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *rack.command()[4:]]
    for folder in (rack.folder, *rack.folder.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(0o755)
    for path in rack.folder.rglob("*"):
        path.chmod(0o777)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "rack netboot: needs root" in ended.stderr
    assert "Traceback" not in ended.stderr


def _expects(rack: BootRack, node: str) -> bool:
    """Whether DHCP runs with a window of this node."""
    config = rack.folder / "run" / "netboot" / "dhcp.conf"
    if not config.exists() or f"set:is-{node}," not in config.read_text(encoding="ascii"):
        return False
    return "67" in _udp_ports(rack)


def _udp_ports(rack: BootRack) -> list[str]:
    return _ports(rack, "-Hlun")


def _tcp_ports(rack: BootRack) -> list[str]:
    return _ports(rack, "-Hltn")


def _ports(rack: BootRack, words: str) -> list[str]:
    command = ["ip", "netns", "exec", rack.server, "ss", words]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split()[3].rpartition(":")[2] for line in said.splitlines()]


def test_the_socket_is_for_its_owner_only(rack: BootRack) -> None:
    rack.start()
    path = rack.folder / "run" / "netboot.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:  # nonsense is not answered with a crash
        link.connect(str(path))
        link.sendall(b"{nonsense\n" + b"x" * 100_000)
    assert until(lambda: '"agent_not_understood"' in rack.log.read_text(encoding="utf-8"))
    assert rack.stop() == 0
