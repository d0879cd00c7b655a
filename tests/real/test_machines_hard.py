"""A rack with emulated machines in earnest: three of them, a lost one, one more, another one in an old one's place."""

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from core.ids import ServiceName
from drivers.lab.client import ClientPlan, read_history
from drivers.lab.machines_build import TIMING
from drivers.lab.services import Endpoint
from drivers.lab.shell import NETNS
from tests.real.built_image import built_image  # noqa: F401 - a fixture
from tests.real.virtual_rack import ROOT, VirtualRack

pytestmark = [pytest.mark.real, pytest.mark.machines, pytest.mark.xdist_group("lab")]

NAME, FOLDER = "mxhard", Path("/var/lib/moxie-machines-test")
UP_MS_MAX = 300_000
"""Dark to joined on two cores."""
MEMORY = ("--memory", "1024")
COUNTER = Endpoint(service=ServiceName("counter"), address="10.98.0.200", port=8_100, keeps=False)
FAILOVER_MS_MAX = 45_000
"""Session, suspicion and a start of the service by an emulated processor, on a busy machine."""


@pytest.fixture(scope="module")
def up(built_image: Path) -> Iterator[tuple[VirtualRack, str, float]]:  # noqa: F811 - the fixture that is imported
    """Three machines that joined, what was said, and how many seconds it took."""
    rack = VirtualRack(NAME, FOLDER)
    rack.down()
    begun = time.monotonic()
    try:
        done = rack.lab("up", "--machines", "3", "--image", str(built_image), "--keep", *MEMORY)
        took = time.monotonic() - begun
        assert done.returncode == 0, f"{done.stderr[-3_000:]}\n{rack.console('m1')[-2_000:]}"
        yield rack, done.stderr, took
    finally:
        rack.down()


@pytest.fixture
def rack(up: tuple[VirtualRack, str, float]) -> VirtualRack:
    return up[0]


def inside(*argv: str) -> tuple[str, ...]:
    """The command that runs where the rack's clients are."""
    return ("nsenter", f"--net={NETNS / f'{NAME}-client'}", *argv)


def state(rack: VirtualRack, node: str) -> str:
    """The lifecycle of a node; "" for one that nobody knows."""
    found = rack.status().get("nodes", {}).get(node, {})
    return str(found.get("state", "")) if found.get("member") or found.get("state") != "joined" else "coming"


def holder_of(rack: VirtualRack) -> str:
    """The node that the counter runs on."""
    return str(rack.status().get("singletons", {}).get("counter", {}).get("holder", ""))


@contextmanager
def clients(folder: Path) -> Iterator[Path]:
    """Ask the counter all the time; the history of it."""
    plan, history = folder / "clients.json", folder / "history.jsonl"
    wanted = ClientPlan(endpoints=(COUNTER,), every_ms=50, base=time.time_ns() // 1_000_000)
    plan.write_bytes(msgspec.json.encode(wanted))
    history.touch()
    argv = inside(sys.executable, "-m", "drivers.lab.client", str(plan), str(history))
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL) as running:
        try:
            yield history
        finally:
            running.send_signal(signal.SIGTERM)


def test_three_dark_machines_join_within_five_minutes(up: tuple[VirtualRack, str, float]) -> None:
    rack, said, took = up
    assert "all 3 machines joined" in said
    print(said)
    assert took * 1_000 <= UP_MS_MAX
    assert [state(rack, node) for node in ("n1", "n2", "n3", "n4")] == ["joined"] * 4


def test_a_holder_that_loses_its_power_costs_one_failover_and_comes_back_by_itself(
    rack: VirtualRack, tmp_path: Path
) -> None:
    assert rack.rack("drain", "n1").returncode == 0
    rack.until(lambda: holder_of(rack) not in ("", "n1"), 120, "n1 gave the counter away")
    assert rack.rack("undrain", "n1", "--wait", "60").returncode == 0
    with clients(tmp_path) as history:
        rack.until(lambda: any(op.outcome == "ok" for op in read_history(history)), 60, "the counter answers")
        holder = holder_of(rack)
        boot = rack.status()["nodes"][holder]["boot_id"]
        assert rack.lab("machine", "kill", holder).returncode == 0
        rack.until(lambda: {op.node for op in read_history(history) if op.outcome == "ok"} - {holder}, 120, "it moved")
        rack.until(
            lambda: state(rack, holder) == "joined" and rack.status()["nodes"][holder]["boot_id"] != boot,
            600,
            f"{holder} is back under another boot",
        )
    times = [op.answered_ms for op in read_history(history) if op.outcome == "ok"]
    gap_ms = max(after - before for before, after in itertools.pairwise(times))
    print(f"counter was away for {gap_ms} ms; session timeout {TIMING.session_timeout_ms} ms")
    assert gap_ms <= FAILOVER_MS_MAX


def test_one_more_machine_joins_with_nobody_typing(rack: VirtualRack) -> None:
    done = rack.lab("machine", "add", "--wait", *MEMORY)
    assert done.returncode == 0, done.stderr
    assert state(rack, "n5") == "joined"


def test_strangers_on_the_boot_network_get_nothing(rack: VirtualRack) -> None:
    """Whoever asks for somebody's script outside of a window gets one without a token, and is on record."""
    guest = rack.layout().guests[0]
    for uuid, mac in ((guest.uuid, guest.mac), (guest.uuid, "52:54:00:00:00:99"), ("0" * 32, guest.mac), ("x", "y")):
        url = f"http://10.98.0.1:8080/node.ipxe?uuid={uuid}&mac={mac.replace(':', '-')}&serial=x&plat=pcbios"
        done = subprocess.run(inside("curl", "-sS", url), capture_output=True, text=True, timeout=60, check=False)
        assert "moxie.token" not in done.stdout, (uuid, mac)
    rack.until(lambda: rack.status()["refusals"], 60, "the refusals are shown")


def test_another_machine_in_the_place_of_a_retired_one_joins_as_a_new_node(rack: VirtualRack) -> None:
    gone = "n3"
    assert rack.rack("retire", gone, "--wait", "240", seconds=300).returncode == 0
    before = set(rack.status()["nodes"])
    slot = next(line.split()[0] for line in rack.lab("machine", "list").stdout.splitlines() if line.split()[1] == gone)
    done = rack.lab("machine", "replace", slot)
    assert done.returncode == 0, done.stderr

    def newcomers() -> list[str]:
        return [node for node in sorted(set(rack.status().get("nodes", {})) - before) if state(rack, node) == "joined"]

    rack.until(newcomers, 600, "another node joined from that slot")
    assert state(rack, gone) == "retired"


def test_nothing_is_left_of_it(rack: VirtualRack) -> None:
    assert rack.down().returncode == 0
    assert rack.left() == []
