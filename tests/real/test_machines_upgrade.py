"""Another image for a rack of emulated machines, from slot to slot of their disks; good ones, and two that are not."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.ids import NodeId
from core.ring import Ring
from drivers.image.manifest import image_id
from drivers.image.slots import Disk, open_disk
from drivers.lab.shell import argv_of, pids
from tests.real.built_image import built_image  # noqa: F401 - a fixture
from tests.real.image_variants import BLIND, SICK, variant
from tests.real.virtual_rack import FAILOVER_MS_MAX, ROOT, VirtualRack, away_ms

pytestmark = [pytest.mark.real, pytest.mark.machines, pytest.mark.xdist_group("lab")]

NAME, FOLDER = "mxnew", Path("/var/lib/moxie-upgrade-test")
NODES = ("n2", "n3")
"""The machines; n1 is native, was installed by hand, and has no part in it."""
S_MAX = 2_400
"""Two turns with boots of emulated processors, many times what they take."""


@pytest.fixture(scope="module")
def rack(built_image: Path) -> Iterator[VirtualRack]:  # noqa: F811 - the fixture that is imported
    """Two machines that joined by netboot and then put the image that they run on their disks."""
    rack = VirtualRack(NAME, FOLDER)
    rack.down()
    try:
        done = rack.lab("up", "--machines", str(len(NODES)), "--image", str(built_image), "--keep")
        assert done.returncode == 0, f"{done.stderr[-3_000:]}\n{rack.console('m1')[-2_000:]}"
        rack.until(lambda: all(good_image(rack, node) == image_id(built_image) for node in NODES), 600, "all installed")
        yield rack
    finally:
        rack.down()


def disk_of(rack: VirtualRack, node: str) -> Disk:
    """The disk of a machine, as it lies on ours."""
    layout = rack.layout()
    guest = next(guest for guest in layout.guests if f"n{guest.slot + 1}" == node)
    disk = open_disk(layout.case(guest) / "disk.raw")
    assert disk is not None
    return disk


def good_image(rack: VirtualRack, node: str) -> str:
    """The image that a machine boots without anybody's help; "" while none was kept."""
    disk = disk_of(rack, node)
    return disk.image_in(disk.choice().good)


def upgrade(rack: VirtualRack) -> dict[str, Any]:
    """What ``rack upgrade status`` shows; empty while nobody answers."""
    done = rack.rack("upgrade", "status", "--json")
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return found


def state_of(rack: VirtualRack) -> str:
    """Whether an upgrade is "running", "done" or "halted"; "" while nobody answers."""
    return str(upgrade(rack).get("record", {}).get("state", ""))


def step_of(rack: VirtualRack, node: str) -> str:
    """What a node of an upgrade is about, in words."""
    return next((str(row["step"]) for row in upgrade(rack).get("rows", ()) if row["node"] == node), "")


def on_native(rack: VirtualRack, *words: str) -> str:
    """Run ``rack upgrade`` on the native node, with all that this node has; what it says."""
    config = str(FOLDER / "rack" / "nodes" / "n1" / "node.toml")
    argv = rack.inside(sys.executable, "-m", "drivers.cli", "upgrade", *words, "--config", config, where="n1")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def begin(rack: VirtualRack, image: Path) -> None:
    """Give an image to the native node's boot server, and begin."""
    on_native(rack, "start", "--image", str(image))


def over(rack: VirtualRack) -> bool:
    """Whether nobody is taken back any more, and all are in service."""
    shown = upgrade(rack).get("record", {})
    return shown.get("current") == [] and all(rack.state(node) == "joined" for node in NODES)


def images_of(rack: VirtualRack) -> list[str]:
    """What the machines run, as they say themselves."""
    nodes = rack.status().get("nodes", {})
    return [str(nodes.get(node, {}).get("image", "")) for node in NODES]


def give_away(rack: VirtualRack) -> None:
    """Have a machine, not the native node, hold the counter, so that an upgrade must move it."""
    assert rack.rack("drain", "n1").returncode == 0
    rack.until(lambda: rack.holder() in NODES, 300, "n1 gave the counter away")
    assert rack.rack("undrain", "n1", "--wait", "60").returncode == 0


def end_agents() -> None:
    """Kill the agent of the native node as hard as can be, and the one that stands by."""
    words = (str(FOLDER / "rack" / "nodes" / "n1" / "node.toml"), "agent")
    found = [pid for pid in pids() if all(word in argv_of(pid) for word in words)]
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def booted_from(rack: VirtualRack, node: str) -> list[str]:
    """The slots that a machine has booted from, in order."""
    machine = f"m{int(node[1:]) - 1}"
    return re.findall(r"moxie: root image from slot ([ab]) ", rack.console(machine))


def carried_on_by(rack: VirtualRack) -> str:
    """The member that owns the duty now."""
    nodes = rack.status().get("nodes", {})
    ring = Ring()
    ring.load(map(NodeId, nodes), [NodeId(node) for node, shown in nodes.items() if shown["member"]])
    return ring.owner_of_key("upgrade")


def test_a_good_image_goes_from_machine_to_machine_whoever_is_killed_meanwhile(
    rack: VirtualRack,
    built_image: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Neither the person who watches is needed, nor an agent that carries it on."""
    new = variant(built_image, "next")
    foretold = re.findall(r"^  upgrade +(.*)$", on_native(rack, "rehearse"), re.MULTILINE)
    assert len(foretold) == 1
    first, *rest = NODES
    give_away(rack)
    with rack.clients(tmp_path) as history:
        begin(rack, new)
        begun_s = time.monotonic()
        words = ("upgrade", "status", "--watch", "--config", str(FOLDER / "rack" / "operator" / "operator.toml"))
        argv = rack.inside(sys.executable, "-m", "drivers.cli", *words)
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL) as watching:
            rack.until(lambda: "restarts" in step_of(rack, first), S_MAX, f"{first} restarts")
            watching.kill()
        end_agents()
        rack.until(lambda: step_of(rack, first) == "done", S_MAX, f"{first} runs the new image and is well")
        rack.until(lambda: carried_on_by(rack) == "n1", S_MAX, "the native node carries it on")
        end_agents()
        rack.until(lambda: state_of(rack) in ("done", "halted"), S_MAX, "it is over")
        print(f"foretold: {foretold[0]}; it took {time.monotonic() - begun_s:.0f} s")
    shown = upgrade(rack)
    assert (shown["record"]["state"], shown["record"]["reason"]) == ("done", "")
    assert images_of(rack) == [image_id(new)] * len(NODES)
    kept = [image_id(new)] * len(NODES)
    rack.until(
        lambda: [good_image(rack, node) for node in NODES] == kept, 300, "each has made the new slot its good one"
    )
    assert all(booted_from(rack, node) for node in rest)
    print(f"counter was away for {away_ms(history)} ms")
    assert away_ms(history) <= FAILOVER_MS_MAX


def test_an_image_that_does_not_find_its_disk_halts_the_upgrade_and_the_machine_boots_the_old_one(
    rack: VirtualRack,
    built_image: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Its initrd gives up, the boot loader takes the slot that has proven itself, and nobody else is touched."""
    running, boots = images_of(rack), [len(booted_from(rack, node)) for node in NODES]
    bad = variant(built_image, "blind", BLIND)
    with rack.clients(tmp_path) as history:
        begin(rack, bad)
        rack.until(lambda: state_of(rack) == "halted", S_MAX, "it halts")
        rack.until(lambda: over(rack), S_MAX, "everybody is back in service")
    first = NODES[0]
    assert f"{first} came back with its old image" in upgrade(rack)["record"]["reason"]
    assert rack.rack("upgrade", "status").returncode == 1
    assert "no partition labelled moxie-slot-" in rack.console("m1")
    assert images_of(rack) == running
    assert [good_image(rack, node) for node in NODES] == running
    assert [len(booted_from(rack, node)) for node in NODES] == [boots[0] + 1, *boots[1:]]
    print(f"counter was away for {away_ms(history)} ms")
    assert away_ms(history) <= FAILOVER_MS_MAX


def test_an_image_that_never_gets_well_is_taken_back_into_the_old_slot(
    rack: VirtualRack,
    built_image: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """It boots, and is a member; the health gate waits in vain, and the node is sent back to what it ran."""
    running = images_of(rack)
    bad = variant(built_image, "sick", SICK)
    with rack.clients(tmp_path) as history:
        begin(rack, bad)
        rack.until(lambda: images_of(rack)[0] == image_id(bad), S_MAX, "a machine runs the bad image")
        rack.until(lambda: state_of(rack) == "halted", S_MAX, "it halts")
        rack.until(lambda: over(rack), S_MAX, "everybody is back in service")
    assert f"{NODES[0]} is back, and not well within" in upgrade(rack)["record"]["reason"]
    assert images_of(rack) == running
    assert [good_image(rack, node) for node in NODES] == running
    print(f"counter was away for {away_ms(history)} ms")
    assert away_ms(history) <= FAILOVER_MS_MAX


def test_nothing_is_left_of_it(rack: VirtualRack) -> None:
    assert rack.down().returncode == 0
    assert rack.left() == []
