"""Power over IPMI 2.0 (RMCP+): one login a call, bounded to the millisecond, one call at a time per BMC.

The only file that imports pyghmi, and only once a BMC is called: it costs 90 ms and 23 MB, which an agent whose
neighbours are well never needs. What pyghmi 1.6 needs around it is in docs/drivers/ipmi.md.
"""

import struct
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from drivers.bmc import (
    BmcFailure,
    Chassis,
    Limit,
    Sensor,
    Survey,
    default_password,
    password_of,
    same_uuid,
)
from drivers.clock import now_ms
from drivers.config import BmcTable, Machine

PORT = 623
WAKE_MS = 10
"""pyghmi sometimes misses that an answer came and sleeps on; it looks again after this long.

Measured, 10 BMCs with 14 commands each: 18.1 s without, 1.1 s with it.
"""

PATIENT_MS, PATIENT_WAKE_MS = 300, 50
"""A call that has waited this long looks again less often: ten hung BMCs shall not keep a core busy."""

LOST_MS = 250
"""How long after ``WAKE_MS`` a wait ends by itself should pyghmi's own thread never end it."""

LOGOUT_MS = 300
"""What a logout may take beyond the call's own limit: a BMC has few session slots, an answer is not waited for."""

EVENTS_MAX = 20
SENSORS_MAX = 500

WRONG = ("Incorrect password", "Unauthorized", "Invalid RAKP4", "Insufficient privilege", "Invalid username")
"""How the texts of pyghmi begin that no repetition will change."""

SILENCE = ("None", "timeout", "Session no longer connected", "Session failed to initialize")
"""How the texts of pyghmi begin that mean that no answer came."""

SURPRISES: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pyghmi raises beside its own exceptions when a BMC lacks something or answers what it did not expect."""

T = TypeVar("T")

_locks: dict[tuple[str, int], threading.Lock] = defaultdict(threading.Lock)
_guard = threading.Lock()
_limits = threading.local()


class _LimitPassed(BaseException):
    """The call's limit passed. No ``Exception``: pyghmi swallows and prints those in places."""


class Ipmi:
    """The BMC of one machine: ``drivers.bmc.Bmc``."""

    def __init__(self, table: BmcTable) -> None:
        self._table = table

    @contextmanager
    def login(self, limit: Limit) -> Iterator[Chassis]:
        """Log in, and out at the end of the block. Raises: BmcFailure."""
        with _command(self._table, limit) as command:
            yield _Chassis(command, limit)


class _Chassis:
    """The chassis commands of one login."""

    def __init__(self, command: Any, limit: Limit) -> None:
        self._command = command
        self._limit = limit

    def is_on(self) -> bool:
        # Get Chassis Status, IPMI 2.0 section 28.2: bit 0 of the first byte is "power is on".
        return bool(self._ask("reading the power", 0x01)[0] & 1)

    def switch(self, on: bool) -> None:
        # Chassis Control, section 28.3: 0 is power down at once, 1 is power up. pyghmi's own set_power asks five
        # questions before it sends, too many between the check of an order's date and the order.
        self._ask(f"switching {'on' if on else 'off'}", 0x02, 1 if on else 0)

    def boot_from_network(self) -> None:
        with _translated("setting the boot device", self._limit):
            self._command.set_bootdev("network", persist=False)

    def identity(self) -> str:
        with _translated("reading the identity", self._limit):
            # Get System GUID, IPMI 2.0 section 22.14.
            return _data(self._command.raw_command(netfn=6, command=0x37), "reading the identity")[:16].hex()

    def _ask(self, doing: str, command: int, *data: int) -> bytes:
        with _translated(doing, self._limit):
            return _data(self._command.raw_command(netfn=0, command=command, data=data), doing)


def survey(machine: Machine, limit_ms: int, uuid_wanted: str = "") -> Survey:
    """Ask a machine's BMC for everything that ``rack check`` shows; never raises for what a BMC does or lacks.

    ``uuid_wanted``: the machine's UUID if the inventory knows it. Answers that a BMC does not have are left empty.
    """
    table, started_ms = machine.bmc, now_ms()
    limit = Limit(now_ms, started_ms + limit_ms)
    try:
        vendor = default_password(table.user, password_of(table))
        with _command(table, limit) as command:
            chassis = _Chassis(command, limit)
            on = chassis.is_on()
            uuids = _optional(limit, lambda: _uuids(command)) or ()
            device = _optional(limit, lambda: str(command.get_bootdev().get("bootdev", ""))) or ""
            sensors = _optional(limit, lambda: _sensors(command, limit)) or ()
            events = _optional(limit, lambda: _events(command, limit)) or ()
    except BmcFailure as failure:
        return Survey(problem=failure.detail, kind=failure.kind, took_ms=now_ms() - started_ms)
    matches = same_uuid(uuid_wanted, uuids)
    warnings = [f"{sensor.name} is {sensor.value}" for sensor in sensors if not sensor.ok]
    if vendor:
        warnings.append(f"its password is the factory default of {vendor}; set another at the BMC and in password_file")
    if matches is False:
        warnings.append(f"its UUID is {uuids[0]}, not the inventory's {uuid_wanted}: is the cable in another machine?")
    return Survey(
        on=on,
        uuids=uuids,
        matches=matches,
        boot_device=device,
        sensors=sensors,
        events=events,
        default_password=vendor,
        warnings=tuple(warnings),
        took_ms=now_ms() - started_ms,
    )


def _uuids(command: Any) -> tuple[str, ...]:
    """The system GUID in each byte order: vendors differ, and the specification differs from SMBIOS."""
    raw = _data(command.raw_command(netfn=6, command=0x37), "reading the UUID")[:16]
    orders = (uuid.UUID(bytes=raw), uuid.UUID(bytes_le=raw), uuid.UUID(bytes=raw[::-1]))
    return tuple(dict.fromkeys(str(order) for order in orders))


def _sensors(command: Any, limit: Limit) -> tuple[Sensor, ...]:
    found: list[Sensor] = []
    for reading in command.get_sensor_data():
        value = "absent" if reading.unavailable else f"{reading.value} {reading.units or ''}".strip()
        if reading.states:
            value = f"{value} ({', '.join(map(str, reading.states))})"
        found.append(Sensor(name=str(reading.name), value=value, ok=not reading.health))
        if len(found) == SENSORS_MAX or not limit.left_ms:
            break
    return tuple(found)


def _events(command: Any, limit: Limit) -> tuple[str, ...]:
    found: list[str] = []
    for entry in command.get_event_log():
        parts = (entry.get("timestamp"), entry.get("component"), entry.get("event"))
        found.append(" ".join(str(part) for part in parts if part))
        if not limit.left_ms:
            break
    return tuple(found[-EVENTS_MAX:])


def _optional(limit: Limit, ask: Callable[[], T]) -> T | None:
    """Return what is asked for, or None where this BMC does not have it."""
    try:
        with _translated("surveying", limit):
            return ask()
    except BmcFailure:
        return None


# -- pyghmi ------------------------------------------------------------------------------------------------------------


class _Library:
    """The parts of pyghmi that are used, loaded once and mended."""

    def __init__(self) -> None:
        from pyghmi import exceptions  # type: ignore[import-untyped]  # pyghmi ships no types
        from pyghmi.ipmi import command  # type: ignore[import-untyped]  # pyghmi ships no types
        from pyghmi.ipmi.private import session  # type: ignore[import-untyped]  # pyghmi ships no types

        self.failures: tuple[type[Exception], ...] = (exceptions.PyghmiException, exceptions.TemporaryError)
        self.command: Any = command.Command
        self.session: Any = session.Session
        session._io_wait = _waiting(session)
        _keep_apart(session)


_library: list[_Library] = []


def _load() -> _Library:
    with _guard:
        if not _library:
            _library.append(_Library())
        return _library[0]


def _waiting(session: Any) -> Callable[..., None]:
    """Make the one function that every wait of pyghmi goes through: it looks again soon, and it ends with the limit."""

    def wait(timeout: float, address: object = None, queue: Any = None) -> None:
        now = now_ms()
        if now >= getattr(_limits, "at_ms", 0):
            raise _LimitPassed
        wake_ms = WAKE_MS if now - _limits.since_ms < PATIENT_MS else PATIENT_WAKE_MS
        woken = threading.Event()
        if queue is not None:
            queue.append(woken)
        seconds = min(timeout, wake_ms / 1_000)
        at = session._monotonic_time() + seconds
        session.ioqueue.append((at, woken, address))
        if at < session.selectdeadline:
            own = session.iosockets[0]
            own.sendto(b"\x01", (session.myself, own.getsockname()[1]))
        woken.wait(max(seconds, 0) + LOST_MS / 1_000)
        if now_ms() >= getattr(_limits, "at_ms", 0):  # also after a long stop of this process: it must not send again
            raise _LimitPassed

    return wait


def _keep_apart(session: Any) -> None:
    """Let each thread tend to its own session only.

    pyghmi lets whoever waits for a login handle everybody's packets and timeouts, with its two locks taken in either
    order: measured, of 200 calls to 40 BMCs of which four are silent, every other run ended in a deadlock.
    """
    begin = session.Session.login

    def login(own: Any) -> None:
        _limits.session = own
        begin(own)

    def turn(_: Any, timeout: float | None = None) -> int:
        own = _limits.session
        left = own.expiration - session._monotonic_time()
        session._io_wait(max(left if timeout is None else min(left, timeout), 0), own.sockaddr)
        session.sessionqueue.clear()  # of those who wait to be handled: all are, by their own threads
        own.process_pktqueue()
        if own.logging and own in own.waiting_sessions and own.expiration < session._monotonic_time():
            own.waiting_sessions.pop(own, None)
            own._timedout()
        return 0

    session.Session.login = login
    session.Session.wait_for_rsp = classmethod(turn)


@contextmanager
def _command(table: BmcTable, limit: Limit) -> Iterator[Any]:
    """Log in for one block. Two logins at one BMC at once make pyghmi hang (4 of 5 runs), so the others wait."""
    password, library, port = password_of(table), _load(), table.port or PORT
    with _guard:
        lock = _locks[table.address, port]
    if not lock.acquire(timeout=limit.left_ms / 1_000):
        raise BmcFailure("silent", "another call still waits for this BMC")
    command: Any = None
    try:
        _limits.at_ms, _limits.since_ms = limit.at_ms, now_ms()
        with _translated("logging in", limit):
            command = library.command(bmc=table.address, userid=table.user, password=password, port=port)
        yield command
    finally:
        # A dead session that stays in this table is given to the next login, which then fails, for ever.
        begun = library.session.initting_sessions.pop((table.address, table.user, password, port, None), None)
        _leave(command.ipmi_session if command is not None else begun)
        _limits.at_ms, _limits.session = 0, None
        lock.release()


def _leave(session: Any) -> None:
    """Log out without waiting for an answer, and take the session out of all of pyghmi's tables."""
    if session is None:
        return
    _limits.at_ms = now_ms() + LOGOUT_MS
    session.waiting_sessions.pop(session, None)
    for leave in (session.logout, session._mark_broken):
        if getattr(session, "broken", True):
            return
        session.incommand, session.lastpayload = False, None  # what was interrupted must not hold the logout back
        try:
            leave()
        except _LimitPassed:
            continue
        except (*SURPRISES, *_load().failures):
            continue


@contextmanager
def _translated(doing: str, limit: Limit) -> Iterator[None]:
    """Turn whatever pyghmi raises into a BmcFailure."""
    try:
        limit.check(doing)
        yield
    except _LimitPassed:
        raise BmcFailure("silent", f"no answer within the limit while {doing}") from None
    except _load().failures as error:
        raise _failure(str(error), doing) from error
    except SURPRISES as error:
        raise BmcFailure("failed", f"{type(error).__name__} while {doing}") from error


def _failure(text: str, doing: str) -> BmcFailure:
    if text.startswith(WRONG):
        return BmcFailure("credentials", f"the BMC refuses user or password while {doing}: {text}")
    if text.startswith(SILENCE) or not text:
        return BmcFailure("silent", f"no answer while {doing}")
    return BmcFailure("failed", f"{text} while {doing}")


def _data(response: Any, doing: str) -> bytes:
    """Return what a response of pyghmi carries. Raises: BmcFailure if it is one of its errors."""
    if response is None:
        raise BmcFailure("silent", f"no answer while {doing}")
    if "error" in response:
        raise _failure(str(response["error"]), doing)
    return bytes(response.get("data", b""))
