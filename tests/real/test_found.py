"""A machine that nobody listed, from its dark BMC to a node that a person can see, and order, and understand."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.identity import same_machine
from drivers.init import prepare
from drivers.roster import FILE, read
from tests.contract.power_worlds import Serial
from tests.real.lab_bmc import FileMachine
from tests.real.rack_on_loopback import UP_S_MAX, Rack, rack, wait_until

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("rack")]

TABLES = """
[[network]]
name = "mgmt"
subnet = "127.0.0.1/32"
[[network.access]]
name = "lab"
port = {port}
password_file = "{password}"
[boot]
subnet = "127.43.0.0/24"
pool = "127.43.0.200-127.43.0.240"
"""


class Place:
    """A rack of one node, and a dark machine with a real BMC in its management network."""

    def __init__(self, folder: Path) -> None:
        self.serial = Serial()
        self.dark = FileMachine(folder / "dark", number=2, console=self.serial.place)
        self.rack = Rack(folder, nodes=1, subnet=43)
        inventory = folder / "inventory.toml"
        more = TABLES.format(port=self.dark.bmc.port, password=self.dark.bmc.password_file)
        inventory.write_text(inventory.read_text(encoding="utf-8") + more, encoding="utf-8")
        timing = {"scan_ms": 1_000, "boot_ms_max": 3_000, "backoff_ms": 500, "boot_attempts_max": 2}
        self.rack.plan.settings["timing"] = timing
        prepare(self.rack.plan)
        self.rack.start(self.rack.nodes[0])
        wait_until(lambda: self.rack.members() == ("n1",), UP_S_MAX, "the first node is a member")

    def state(self) -> str:
        """The lifecycle of the machine that was found."""
        found: str = self.rack.status()["nodes"].get("n2", {}).get("state", "")
        return found

    def close(self) -> None:
        self.rack.stop()
        self.dark.close()
        self.serial.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("found"))
    yield made
    made.close()


def test_a_dark_machine_is_found_named_and_powered_on(place: Place) -> None:
    wait_until(lambda: place.dark.is_on, UP_S_MAX, "the machine that was found is powered on")
    (machine,) = place.rack.status()["machines"]
    assert (machine["node"], machine["number"], machine["access"]) == ("n2", 2, "lab")
    assert same_machine(machine["guid"], place.dark.bmc.uuid)
    state_dir = place.rack.folder / "n1" / "state"
    assert [record.node for record in read(state_dir) or ()] == ["n2"]


def test_one_that_does_not_boot_ends_in_quarantine_with_a_reason_and_its_console(place: Place) -> None:
    def given_up() -> bool:
        place.serial.say("No bootable device.")
        return place.state() == "quarantined"

    wait_until(given_up, UP_S_MAX, "the machine is given up")
    shown = place.rack.status()["nodes"]["n2"]
    assert shown["reason"]
    assert "No bootable device." in shown["console"]
    text = rack("status", "--config", place.rack.operator).stdout
    assert "QUARANTINED" in text
    assert "│ No bootable device." in text
    print(text)


def test_the_operator_learns_of_it_from_the_rack_and_may_order_it(place: Place) -> None:
    done = rack("release", "n2", "--config", place.rack.operator)
    assert (done.returncode, done.stderr) == (0, "")
    assert (Path(place.rack.operator).parent / FILE).exists()
    done = rack("release", "n9", "--config", place.rack.operator)
    assert done.returncode == 2
    assert "no such node; allowed: n1, n2" in done.stderr


def test_a_scan_says_what_a_machine_is_known_as(place: Place) -> None:
    done = rack("scan", "--config", place.rack.operator)
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("127.0.0.1 "))
    assert row.split()[-3:-1] == ["n2", "lab"]


def test_an_agent_that_starts_anew_knows_it_at_once(place: Place) -> None:
    view = place.rack.folder / "n1" / "run" / "view.json"
    before = view.read_text(encoding="utf-8")
    place.rack._running[place.rack.nodes[0]].send_signal(signal.SIGHUP)
    wait_until(lambda: view.read_text(encoding="utf-8").count('"incarnation":1') == 0, 30, "another agent runs")
    assert before
    wait_until(lambda: place.rack.members() == ("n1",), UP_S_MAX, "it is a member again")
    assert place.rack.status()["machine_problems"] == []
    assert "Traceback" not in place.rack.log(place.rack.nodes[0]).read_text(encoding="utf-8", errors="replace")
