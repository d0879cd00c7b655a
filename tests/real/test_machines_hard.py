"""A rack with emulated machines in earnest: three of them, a lost one, one more, another one in an old one's place."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.lab.machines_build import TIMING
from tests.real.built_image import built_image  # noqa: F401 - a fixture
from tests.real.virtual_rack import FAILOVER_MS_MAX, VirtualRack, answers, away_ms

pytestmark = [pytest.mark.real, pytest.mark.machines, pytest.mark.xdist_group("lab")]

NAME, FOLDER = "mxhard", Path("/var/lib/moxie-machines-test")
MEMORY = ("--memory", "1024")


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


def test_three_dark_machines_join_by_themselves(up: tuple[VirtualRack, str, float]) -> None:
    rack, said, took = up
    assert "all 3 machines joined" in said
    print(f"{said}\ndark to joined in {took:.0f} s; aim: 300 s on two cores that do nothing else")
    assert [rack.state(node) for node in ("n1", "n2", "n3", "n4")] == ["joined"] * 4


def test_a_holder_that_loses_its_power_costs_one_failover_and_comes_back_by_itself(
    rack: VirtualRack, tmp_path: Path
) -> None:
    assert rack.rack("drain", "n1").returncode == 0
    rack.until(lambda: rack.holder() not in ("", "n1"), 120, "n1 gave the counter away")
    assert rack.rack("undrain", "n1", "--wait", "60").returncode == 0
    with rack.clients(tmp_path) as history:
        holder = rack.holder()
        boot = rack.status()["nodes"][holder]["boot_id"]
        assert rack.lab("machine", "kill", holder).returncode == 0
        rack.until(lambda: {node for _, node in answers(history)} - {holder}, 120, "it moved")
        rack.until(
            lambda: rack.state(holder) == "joined" and rack.status()["nodes"][holder]["boot_id"] != boot,
            600,
            f"{holder} is back under another boot",
        )
    print(f"counter was away for {away_ms(history)} ms; session timeout {TIMING.session_timeout_ms} ms")
    assert away_ms(history) <= FAILOVER_MS_MAX


def test_one_more_machine_joins_with_nobody_typing(rack: VirtualRack) -> None:
    done = rack.lab("machine", "add", "--wait", *MEMORY)
    assert done.returncode == 0, done.stderr
    assert rack.state("n5") == "joined"


def test_strangers_on_the_boot_network_get_nothing(rack: VirtualRack) -> None:
    """Whoever asks for somebody's script outside of a window gets one without a token, and is on record."""
    guest = rack.layout().guests[0]
    for uuid, mac in ((guest.uuid, guest.mac), (guest.uuid, "52:54:00:00:00:99"), ("0" * 32, guest.mac), ("x", "y")):
        url = f"http://10.98.0.1:8080/node.ipxe?uuid={uuid}&mac={mac.replace(':', '-')}&serial=x&plat=pcbios"
        done = subprocess.run(rack.inside("curl", "-sS", url), capture_output=True, text=True, timeout=60, check=False)
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
        return [node for node in sorted(set(rack.status().get("nodes", {})) - before) if rack.state(node) == "joined"]

    rack.until(newcomers, 600, "another node joined from that slot")
    assert rack.state(gone) == "retired"


def test_nothing_is_left_of_it(rack: VirtualRack) -> None:
    assert rack.down().returncode == 0
    assert rack.left() == []
