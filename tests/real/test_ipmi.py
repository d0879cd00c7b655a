"""IPMI against a real server, ``ipmi_sim``: logins, faults of BMCs, the survey, and many BMCs at once."""

import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, PowerSeen
from core.ids import NodeId, OpId
from drivers import bmc
from drivers.bmc import BmcFailure, Limit
from drivers.clock import now_ms
from drivers.ipmi import Ipmi, survey
from drivers.lab import bmcs, chassis
from drivers.power import Power
from tests.real.lab_bmc import FileMachine, password_file

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("power")]

CROWD = 12


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[FileMachine]:
    made = FileMachine(tmp_path / "n2")
    yield made
    made.close()


def limit(ms: int = 5_000) -> Limit:
    return Limit(now_ms, now_ms() + ms)


def read(ward: FileMachine, ms: int = 5_000) -> str:
    try:
        return "on" if bmc.read(Ipmi(ward.machine.bmc), limit(ms)) else "off"
    except BmcFailure as failure:
        return failure.kind


def order(ward: FileMachine, action: bmc.Action, ms: int = 5_000) -> str:
    try:
        return "on" if bmc.order(Ipmi(ward.machine.bmc), action, limit(ms), lambda: None) else "off"
    except BmcFailure as failure:
        return failure.kind


def test_on_sets_one_boot_from_the_network(ward: FileMachine) -> None:
    assert order(ward, "on") == "on"
    assert ward.is_on
    assert chassis.boot_device(ward.folder) == "pxe"
    assert chassis.boot_device(ward.folder) == "default"


def test_a_machine_without_feed_reads_off_and_cannot_be_switched_on(ward: FileMachine) -> None:
    assert order(ward, "on") == "on"
    chassis.break_it(ward.folder, "nofeed")
    assert read(ward) == "off"
    assert order(ward, "on") == "failed"
    chassis.mend(ward.folder, "nofeed")
    assert read(ward) == "on"


@pytest.mark.parametrize(("lie", "said"), [(0, "off"), (1, "on")])
def test_a_lying_bmc_reports_what_it_likes_and_obeys_nobody(ward: FileMachine, lie: int, said: str) -> None:
    if said == "off":
        assert order(ward, "on") == "on"
    before = ward.is_on
    chassis.break_it(ward.folder, "lie", lie)
    assert read(ward) == said
    assert order(ward, "on" if said == "off" else "off", ms=400) == "failed"
    assert ward.is_on == before


def test_a_slow_bmc_answers_late(ward: FileMachine) -> None:
    chassis.break_it(ward.folder, "slow_ms", 250)
    asked_ms = now_ms()
    assert read(ward) == "off"
    assert now_ms() - asked_ms >= 250


def test_a_hung_request_ends_at_the_limit_and_the_bmc_is_well_afterwards(ward: FileMachine) -> None:
    chassis.break_it(ward.folder, "hang")
    asked_ms = now_ms()
    assert read(ward, ms=300) == "silent"
    assert now_ms() - asked_ms < 2_000
    chassis.mend(ward.folder, "hang")
    assert read(ward) == "off"


def test_the_next_call_is_well_after_a_stop_a_death_and_a_restart(ward: FileMachine) -> None:
    bmcs.freeze(ward.folder)
    assert read(ward, ms=300) == "silent"
    bmcs.thaw(ward.folder)
    assert read(ward) == "off"
    bmcs.stop(ward.folder)
    assert read(ward, ms=300) == "silent"
    bmcs.start(ward.bmc)
    assert [read(ward) for _ in range(5)] == ["off"] * 5


def test_a_wrong_password_or_user_is_refused_at_once_and_never_shown(ward: FileMachine) -> None:
    (ward.folder / "password").write_text("wr0ng\n")
    asked_ms = now_ms()
    with pytest.raises(BmcFailure) as failure:
        bmc.read(Ipmi(ward.machine.bmc), limit())
    assert failure.value.kind == "credentials"
    assert "wr0ng" not in failure.value.detail
    assert now_ms() - asked_ms < 2_000


def test_the_survey_reads_a_simulator_that_has_neither_sensors_nor_a_log(ward: FileMachine) -> None:
    found = survey(ward.machine, 5_000, uuid_wanted=ward.bmc.uuid)
    assert (found.problem, found.on, found.matches) == ("", False, True)
    assert found.uuids[0] == ward.bmc.uuid
    other = survey(ward.machine, 5_000, uuid_wanted="00000000-0000-0000-0000-000000000000")
    assert other.matches is False
    assert "another machine" in other.warnings[0]


def test_the_survey_warns_of_a_factory_password(tmp_path: Path) -> None:
    ward = FileMachine(tmp_path / "n2", password="admin")
    try:
        found = survey(ward.machine, 5_000)
    finally:
        ward.close()
    assert "Fujitsu" in found.default_password
    assert "factory default" in found.warnings[0]


def test_the_survey_says_why_it_has_nothing(ward: FileMachine) -> None:
    password_file(ward.folder, "wr0ng")
    assert survey(ward.machine, 5_000).kind == "credentials"
    bmcs.stop(ward.folder)
    assert survey(ward.machine, 300).kind == "silent"


def test_many_bmcs_answer_at_once_and_a_hung_one_delays_nobody(tmp_path: Path) -> None:
    wards: list[FileMachine] = []
    try:
        wards = [FileMachine(tmp_path / f"n{number}", number) for number in range(1, CROWD + 1)]
        bmcs.freeze(wards[0].folder)
        port = Power({NodeId(ward.machine.id): ward.machine for ward in wards}, now_ms)
        events: queue.SimpleQueue[AnyEvent] = queue.SimpleQueue()
        for op in range(5 * CROWD):
            node = NodeId(wards[op % CROWD].machine.id)
            port.submit(fx.ReadPower(op=OpId(op), node=node, ms_max=4_000), events.put)
        answers = [events.get(timeout=20) for _ in range(5 * CROWD)]
    finally:
        for ward in wards:
            ward.close()
    hung = [event for event in answers if isinstance(event, OpFailed)]
    assert {event.op % CROWD for event in hung} == {0}
    assert len(hung) == 5
    well = [event for event in answers if isinstance(event, OpSucceeded)]
    assert {event.result for event in well} == {PowerSeen(on=False)}
    assert max(event.at_ms for event in well) < min(event.at_ms for event in hung)


def test_a_bmc_that_is_ended_leaves_no_process_and_no_pid_file(ward: FileMachine) -> None:
    pid = bmcs.pid_of(ward.folder)
    assert bmcs.start(ward.bmc) == pid
    chassis.break_it(ward.folder, "hang")
    assert read(ward, ms=200) == "silent"
    bmcs.stop(ward.folder)
    assert bmcs.pid_of(ward.folder) == 0
    assert not (ward.folder / "bmc.pid").exists()
    bmcs.stop(ward.folder)


def test_the_password_is_in_no_file_that_others_may_read_and_in_no_command_line(ward: FileMachine) -> None:
    pid = bmcs.pid_of(ward.folder)
    assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    open_ones = [
        path
        for path in ward.folder.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and b"s3cret" in path.read_bytes()
    ]
    assert open_ones == []


def test_an_agent_that_calls_no_bmc_does_not_load_the_library() -> None:
    code = "import sys, drivers.power, drivers.ipmi, drivers.bmc; print('pyghmi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_stopped_caller_does_not_send_an_order_after_its_date(ward: FileMachine, tmp_path: Path) -> None:
    """Rule 9: the process is stopped while the BMC hangs on its login, and goes on after the order's date."""
    bmcs.freeze(ward.folder)
    script = tmp_path / "caller.py"
    script.write_text(CALLER.format(port=ward.bmc.port, password=ward.bmc.password_file))
    caller = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "submitted\n"
        caller.send_signal(signal.SIGSTOP)
        bmcs.thaw(ward.folder)
        assert read(ward) == "off"
        until_ms = now_ms() + 1_200
        while now_ms() < until_ms:
            assert read(ward) == "off"
        caller.send_signal(signal.SIGCONT)
        assert caller.stdout.readline() in ("unanswered\n", "refused\n")
        assert caller.wait(10) == 0
    finally:
        caller.kill()
        caller.communicate()
    assert not ward.is_on


CALLER = """
import queue
from pathlib import Path
from core import effects as fx
from core.ids import NodeId, OpId
from drivers.clock import now_ms
from drivers.config import BmcTable, Machine
from drivers.power import Power

table = BmcTable(driver="ipmi", address="127.0.0.1", port={port}, password_file=Path("{password}"))
events = queue.SimpleQueue()
port = Power({{NodeId("n2"): Machine(id="n2", number=2, address="127.0.0.2", bmc=table)}}, now_ms)
order = fx.PowerOrder(op=OpId(1), node=NodeId("n2"), action="on", generation=1, deadline_ms=now_ms() + 1_000)
port.submit(order, events.put)
print("submitted", flush=True)
print(events.get(timeout=10).reason, flush=True)
"""
