"""Services as units of systemd, over D-Bus: the same interface as ``drivers.process``. The only importer of dbus_fast.

The library wants an event loop of its own: it runs in a thread here; orders go in, ends come out.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from dbus_fast import BusType, DBusFastError, Message, MessageType
from dbus_fast.aio import MessageBus

from drivers.log import event as log
from drivers.loop import Loop
from drivers.workload import Ended, Launch, Task

NAME, ROOT = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER, UNIT, SERVICE = f"{NAME}.Manager", f"{NAME}.Unit", f"{NAME}.Service"
"""Source: org.freedesktop.systemd1(5)."""
PROPERTIES = "org.freedesktop.DBus.Properties"
CHANGES = f"type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged'"
CALL_S_MAX = 5.0
RECONNECT_S = 0.5
GONE = ("inactive", "failed")
KILLED = ("timeout", "watchdog", "oom-kill")
"""Results of a unit of which some process did not end by itself."""


class Refused(Exception):
    """Systemd said no, or did not answer."""


class Systemd:
    """The workload driver ``systemd``. ``address``: of the bus, if it is not the system's."""

    def __init__(self, loop: Loop, address: str | None = None) -> None:
        self._loop = loop
        self._address = address
        self._bus: MessageBus | None = None
        self._units: dict[str, _Running] = {}
        self._orders: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._inner = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        self._thread.start()

    def start(self, launch: Launch, ended: Callable[[Ended], None]) -> Task:
        """Start the service's unit; what stands for its placeholders is written where the unit can read it."""
        _write_environment(launch)
        post = self._loop.post
        running = _Running(self, launch.process.unit, lambda how: post(lambda: ended(how)))
        self.order(running.begin)
        return running

    def close(self) -> None:
        """End the thread; units run on."""
        self._inner.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    def sweep(self, units: list[str]) -> None:
        """Kill what an earlier supervisor left running: units outlive it, rights do not."""
        for unit in units:
            _Running(self, unit, lambda _: None).kill()

    @property
    def connected(self) -> bool:
        """Whether there is a bus."""
        return self._bus is not None

    def order(self, what: Callable[[], Awaitable[None]]) -> None:
        """Have something done over the bus, in the order it was asked for, as soon as there is a bus."""
        self._inner.call_soon_threadsafe(self._orders.put_nowait, what)

    # -- in the thread ----------------------------------------------------------------------------------------------

    async def call(self, member: str, signature: str = "", *body: object) -> list[object]:
        """Call the manager. Raises: Refused."""
        return await self._call(ROOT, MANAGER, member, signature, body)

    async def properties(self, path: str, interface: str, *names: str) -> list[object]:
        """Read properties of a unit, in the order asked for. Raises: Refused."""
        found = []
        for name in names:
            answer = await self._call(path, PROPERTIES, "Get", "ss", (interface, name))
            found.append(getattr(answer[0], "value", None))
        return found

    def watch(self, path: str, unit: "_Running") -> None:
        """Have a unit looked at whenever one of its properties changes."""
        self._units[path] = unit

    def forget(self, path: str) -> None:
        """Look no more."""
        self._units.pop(path, None)

    async def _call(
        self, path: str, interface: str, member: str, signature: str, body: tuple[object, ...]
    ) -> list[object]:
        message = Message(
            destination=NAME, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        bus = self._bus
        if bus is None:
            raise Refused("no connection to systemd")
        try:
            answer = await asyncio.wait_for(bus.call(message), CALL_S_MAX)
        except (TimeoutError, OSError, EOFError, DBusFastError) as error:
            raise Refused(f"{member}: {str(error) or 'no answer'}") from error
        if answer.message_type is MessageType.ERROR:
            raise Refused(f"{member}: {answer.body[0] if answer.body else 'refused'}")
        return list(answer.body)

    def _run(self) -> None:
        asyncio.set_event_loop(self._inner)
        self._main = self._inner.create_task(self._serve_on())
        with suppress(asyncio.CancelledError):
            self._inner.run_until_complete(self._main)
        self._inner.close()

    async def _serve_on(self) -> None:
        while True:
            try:
                await self._serve()
            except (OSError, EOFError, DBusFastError, Refused) as error:
                log("systemd_lost", error=str(error))
            await asyncio.sleep(RECONNECT_S)

    async def _serve(self) -> None:
        """Connect, look at everything that may have changed meanwhile, then carry out orders until the bus is lost."""
        bus = MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM)
        await bus.connect()
        self._bus = bus
        lost = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]  # the library's
        try:
            await self.call("Subscribe")
            await self._add_match()
            bus.add_message_handler(self._on_message)
            for unit in list(self._units.values()):
                await unit.look()
            while not lost.done():
                await self._obey_next(lost)
        finally:
            self._bus = None
            bus.disconnect()
            await _end(lost)

    async def _obey_next(self, lost: "asyncio.Future[None]") -> None:
        order = asyncio.ensure_future(self._orders.get())
        try:
            await asyncio.wait((order, lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(order)
        if not order.cancelled():
            await order.result()()

    async def _add_match(self) -> None:
        bus = self._bus
        assert bus is not None
        name = "org.freedesktop.DBus"
        rule = Message(
            destination=name,
            path="/org/freedesktop/DBus",
            interface=name,
            member="AddMatch",
            signature="s",
            body=[CHANGES],
        )
        await asyncio.wait_for(bus.call(rule), CALL_S_MAX)

    def _on_message(self, message: Message) -> None:
        unit = self._units.get(message.path or "")
        if unit is not None and message.member == "PropertiesChanged":
            self._orders.put_nowait(unit.look)


class _Running:
    """One unit. ``begin`` and ``look`` run in the driver's thread, the others are called in the supervisor's."""

    def __init__(self, systemd: Systemd, unit: str, ended: Callable[[Ended], None]) -> None:
        self._systemd = systemd
        self._unit = unit
        self._ended = ended
        self._path = ""
        self._open = True
        self._killed = False

    def end(self) -> None:
        """Stop the unit; systemd kills what does not stop within the unit's own limit."""
        self._systemd.order(lambda: self._do(("StopUnit", "ss", self._unit, "replace")))

    def kill(self) -> None:
        """Kill every process of the unit, and let systemd not start it again."""
        self._killed = True
        self._systemd.order(
            lambda: self._do(
                ("KillUnit", "ssi", self._unit, "all", int(signal.SIGKILL)), ("StopUnit", "ss", self._unit, "replace")
            )
        )

    def freeze(self) -> None:
        """Freeze the unit."""
        self._systemd.order(lambda: self._instead("FreezeUnit", signal.SIGSTOP))

    def thaw(self) -> None:
        """Let the unit go on."""
        self._systemd.order(lambda: self._instead("ThawUnit", signal.SIGCONT))

    async def begin(self) -> None:
        """Start the unit."""
        try:
            (path,) = await self._systemd.call("LoadUnit", "s", self._unit)
            self._path = str(path)
            self._systemd.watch(self._path, self)
            with suppress(Refused):  # it did not fail before
                await self._systemd.call("ResetFailedUnit", "s", self._unit)
            await self._systemd.call("StartUnit", "ss", self._unit, "replace")
        except Refused as error:
            self._end(Ended(detail=f"{self._unit}: {error}", killed=False))
            return
        await self.look()

    async def look(self) -> None:
        """See whether the unit still runs, and tell if it does not."""
        if not self._open:
            return
        try:
            state, job = await self._systemd.properties(self._path, UNIT, "ActiveState", "Job")
            if state not in GONE or _number(job):
                return
            result, status = await self._systemd.properties(self._path, SERVICE, "Result", "ExecMainStatus")
        except Refused as error:
            log("systemd_unseen", unit=self._unit, error=str(error))
            return
        detail = f"{self._unit}: {result}, status {status}"
        self._end(Ended(detail=detail, killed=self._killed or result in KILLED))

    async def _do(self, *calls: tuple[object, ...]) -> None:
        for member, signature, *body in calls:
            try:
                await self._systemd.call(str(member), str(signature), *body)
            except Refused as error:
                log("systemd_refused", unit=self._unit, error=str(error))
                if not self._systemd.connected:
                    self._systemd.order(lambda: self._do(*calls))  # once there is a bus again
                    return
        if self._path:
            await self.look()

    async def _instead(self, member: str, number: int) -> None:
        """Freeze or thaw; where the kernel or systemd cannot, stop or continue its processes."""
        try:
            await self._systemd.call(member, "s", self._unit)
        except Refused:
            await self._do(("KillUnit", "ssi", self._unit, "all", int(number)))

    def _end(self, how: Ended) -> None:
        if self._open:
            self._open = False
            self._systemd.forget(self._path)
            self._ended(how)


async def _end(future: "asyncio.Future[Any]") -> None:
    """Cancel what has not ended, and wait until it has."""
    future.cancel()
    await asyncio.gather(future, return_exceptions=True)


def _number(job: object) -> int:
    """The number of a pending job: property ``Job`` is (number, path), 0 if there is none."""
    return int(job[0]) if isinstance(job, list | tuple) and job else 0


def _write_environment(launch: Launch) -> None:
    """Write ``env`` in the service's run-time folder: ``EnvironmentFile=`` of a unit reads it."""
    lines = {f"MOXIE_{name.upper()}": value for name, value in launch.places.items()} | launch.env
    text = "".join(f'{name}="{_quoted(value)}"\n' for name, value in sorted(lines.items()))
    path = launch.cwd / "env"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
