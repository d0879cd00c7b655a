"""The systemd driver against a systemd1 object of the test's own, on a private D-Bus daemon."""

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dbus_fast import DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from core.ids import ServiceName
from drivers.loop import Loop
from drivers.systemd import NAME, PROPERTIES, ROOT, SERVICE, UNIT, Systemd
from drivers.workload import Ended, Launch
from formats.catalog import Process
from tests.real.require import require

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("systemd")]

DB = "db.service"


class Unit:
    """One unit as systemd shows it."""

    def __init__(self) -> None:
        self.state = "inactive"
        self.result = "success"
        self.job = 0
        self.frozen = False


class SystemdOne:
    """Answers the manager's methods that the driver uses; ``freezes`` False: as where the kernel cannot."""

    def __init__(self, address: str) -> None:
        self.units = {DB: Unit()}
        self.calls: list[tuple[object, ...]] = []
        self.freezes = True
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def set(self, state: str, result: str = "success") -> None:
        """Let the unit change by itself."""
        self._loop.call_soon_threadsafe(self._set, DB, state, result)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self._bus = await MessageBus(bus_address=self._address).connect()
        self._bus.add_message_handler(self._take)
        await self._bus.request_name(NAME)
        self._ready.set()
        await self._end.wait()
        self._bus.disconnect()

    def _take(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or not (message.path or "").startswith(ROOT):
            return None
        if message.member == "Get":
            return Message.new_method_return(message, "v", [self._property(*message.body)])
        self.calls.append((message.member, *message.body))
        try:
            return self._manage(message)
        except DBusError as error:
            return Message.new_error(message, error.type, error.text)

    def _property(self, interface: str, name: str) -> Variant:
        unit = self.units[DB]
        return {
            (UNIT, "ActiveState"): Variant("s", unit.state),
            (UNIT, "Job"): Variant("(uo)", [unit.job, ROOT]),
            (SERVICE, "Result"): Variant("s", unit.result),
            (SERVICE, "ExecMainStatus"): Variant("i", 0),
        }[interface, name]

    def _manage(self, message: Message) -> Message:
        member, (name, *rest) = message.member, message.body or [""]
        if member == "Subscribe":
            return Message.new_method_return(message)
        if name not in self.units:
            raise DBusError(f"{NAME}.NoSuchUnit", f"Unit {name} not found.")
        if member == "LoadUnit":
            return Message.new_method_return(message, "o", [f"{ROOT}/unit/db_2eservice"])
        if member == "StartUnit":
            self._set(name, "active")
        elif member == "StopUnit":
            self._set(name, "inactive")
        elif member == "KillUnit" and rest[1] == 9:
            self._set(name, "failed", "signal")
        elif member in ("FreezeUnit", "ThawUnit"):
            if not self.freezes:
                raise DBusError("org.freedesktop.DBus.Error.NotSupported", "Unit does not support freezing.")
            self.units[name].frozen = member == "FreezeUnit"
        if member in ("StartUnit", "StopUnit"):
            return Message.new_method_return(message, "o", [f"{ROOT}/job/1"])
        return Message.new_method_return(message)

    def _set(self, name: str, state: str, result: str = "success") -> None:
        unit = self.units[name]
        unit.state, unit.result = state, result
        changed = {"ActiveState": Variant("s", state)}
        self._bus.send(
            Message.new_signal(
                f"{ROOT}/unit/db_2eservice", PROPERTIES, "PropertiesChanged", "sa{sv}as", [UNIT, changed, []]
            )
        )


class Bench:
    """A driver on a bus of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:path={folder}/bus"
        self.daemon = self.start_daemon()
        self.one = SystemdOne(self.address)
        self.loop = Loop()
        self.systemd = Systemd(self.loop, self.address)
        self.ended: list[Ended] = []

    def start_daemon(self) -> "subprocess.Popen[bytes]":
        argv = ("dbus-daemon", "--session", "--nofork", "--print-address", f"--address={self.address}")
        daemon = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert daemon.stdout is not None
        assert daemon.stdout.readline()
        daemon.stdout.close()
        return daemon

    def launch(self, unit: str = DB) -> Launch:
        process = Process(unit=unit, env={"MINE": 'a "b"'})
        return Launch(service=ServiceName("db"), process=process, places={"mount": "/m"}, cwd=self.folder)

    def wait(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < until, f"in vain: {self.one.calls}, {self.ended}"
            self.loop.turn(20)

    def close(self) -> None:
        self.systemd.close()
        self.one.close()
        self.daemon.kill()
        self.daemon.wait()
        self.loop.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    require("dbus-daemon", root=False)
    made = Bench(tmp_path)
    yield made
    made.close()


def state(bench: Bench) -> str:
    return bench.one.units[DB].state


def test_a_unit_is_started_with_what_it_needs_to_know_and_stopped(bench: Bench) -> None:
    task = bench.systemd.start(bench.launch(), bench.ended.append)
    bench.wait(lambda: state(bench) == "active")
    assert (bench.folder / "env").read_text(encoding="utf-8") == 'MINE="a \\"b\\""\nMOXIE_MOUNT="/m"\n'
    task.end()
    bench.wait(lambda: bool(bench.ended))
    assert bench.ended == [Ended(detail="db.service: success, status 0", killed=False)]


def test_a_unit_that_systemd_does_not_know_ends_with_its_sentence(bench: Bench) -> None:
    bench.systemd.start(bench.launch("no.service"), bench.ended.append)
    bench.wait(lambda: bool(bench.ended))
    assert bench.ended[0].detail == "no.service: LoadUnit: Unit no.service not found."


def test_a_unit_that_ends_by_itself_is_heard_of(bench: Bench) -> None:
    bench.systemd.start(bench.launch(), bench.ended.append)
    bench.wait(lambda: state(bench) == "active")
    bench.one.set("deactivating", "exit-code")
    bench.one.set("failed", "exit-code")
    bench.wait(lambda: bool(bench.ended))
    assert bench.ended == [Ended(detail="db.service: exit-code, status 0", killed=False)]


def test_a_kill_is_not_clean_and_neither_is_a_stop_that_took_too_long(bench: Bench) -> None:
    bench.systemd.start(bench.launch(), bench.ended.append).kill()
    bench.wait(lambda: len(bench.ended) == 1)
    assert ("KillUnit", DB, "all", 9) in bench.one.calls
    bench.systemd.start(bench.launch(), bench.ended.append)
    bench.wait(lambda: state(bench) == "active")
    bench.one.set("failed", "timeout")
    bench.wait(lambda: len(bench.ended) == 2)
    assert [how.killed for how in bench.ended] == [True, True]


def test_a_unit_is_frozen_and_thawed(bench: Bench) -> None:
    task = bench.systemd.start(bench.launch(), bench.ended.append)
    task.freeze()
    bench.wait(lambda: bench.one.units[DB].frozen)
    task.thaw()
    bench.wait(lambda: not bench.one.units[DB].frozen)


def test_where_units_cannot_be_frozen_their_processes_are_stopped(bench: Bench) -> None:
    bench.one.freezes = False
    task = bench.systemd.start(bench.launch(), bench.ended.append)
    task.freeze()
    task.thaw()
    bench.wait(lambda: ("KillUnit", DB, "all", 18) in bench.one.calls)
    assert ("KillUnit", DB, "all", 19) in bench.one.calls


def test_what_ends_while_the_bus_is_away_is_seen_afterwards(bench: Bench) -> None:
    bench.systemd.start(bench.launch(), bench.ended.append)
    bench.wait(lambda: state(bench) == "active")
    bench.one.close()
    bench.daemon.kill()
    bench.daemon.wait()
    (bench.folder / "bus").unlink(missing_ok=True)
    bench.daemon = bench.start_daemon()
    bench.one = SystemdOne(bench.address)  # its unit is inactive: it ended meanwhile
    bench.wait(lambda: bool(bench.ended))


def test_a_new_supervisor_kills_units_that_an_earlier_one_left(bench: Bench) -> None:
    bench.one.set("active")
    bench.systemd.sweep([DB])
    bench.wait(lambda: ("KillUnit", DB, "all", 9) in bench.one.calls)
    bench.wait(lambda: ("StopUnit", DB, "replace") in bench.one.calls)
