"""What a BMC driver offers and how its calls fail: a login, three commands, and one way to carry out a power order."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from core.events import Reason
from drivers.config import BmcTable

Kind = Literal[
    "silent",  # no answer: what happened is unknown, and "off" is not proved
    "unreachable",  # not even a connection: nothing was done
    "credentials",  # user, password or privilege are wrong: asking again changes nothing
    "untrusted",  # whoever answers shows a certificate that ca does not allow, or no TLS: no password was sent
    "late",  # the order's date, or a newer order, forbids to send it: nothing was done
    "failed",  # the BMC answered with an error, or reports something else than what was ordered
]
Action = Literal["on", "off", "cycle"]

REASONS: dict[Kind, tuple[Reason, bool]] = {
    "silent": ("unanswered", True),
    "unreachable": ("unavailable", True),
    "credentials": ("refused", False),
    "untrusted": ("refused", False),
    "late": ("refused", False),
    "failed": ("failed", True),
}
"""Reason and retryable of the ``OpFailed`` that each kind becomes."""

POLL_MS = 100
"""How long to wait between two readings of a state that was ordered. A reading costs a BMC 4 to 17 ms (measured)."""


class BmcFailure(Exception):
    """A call to a BMC did not succeed; ``detail`` is for people and holds no secret."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(detail)
        self.kind: Kind = kind
        self.detail = detail


class Limit:
    """The moment by which a call must be over, on the node's own clock."""

    def __init__(self, now_ms: Callable[[], int], at_ms: int) -> None:
        self._now_ms = now_ms
        self.at_ms = at_ms

    @property
    def left_ms(self) -> int:
        """Milliseconds left; 0 once it has passed."""
        return max(self.at_ms - self._now_ms(), 0)

    def check(self, doing: str) -> None:
        """Raise BmcFailure (silent) once the limit has passed."""
        if not self.left_ms:
            raise BmcFailure("silent", f"no answer within the limit while {doing}")


class Chassis(Protocol):
    """One login at one BMC. Each method raises BmcFailure."""

    def is_on(self) -> bool: ...

    def switch(self, on: bool) -> None: ...

    def boot_from_network(self) -> None: ...

    def identity(self) -> str:
        """The machine's GUID as the BMC sends it, 32 hex digits; "" if it has none."""
        ...


class Bmc(Protocol):
    """One BMC. ``login`` logs in, and out at the end of the block; raises BmcFailure. One login at a time."""

    def login(self, limit: Limit) -> AbstractContextManager[Chassis]: ...


class Sensor(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str
    ok: bool


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What ``rack check`` wants to know of one BMC.

    ``problem``: why it could not be asked, and ``kind`` which sort of why; both empty if it could. ``uuids``: the
    machine's UUID in every byte order it can be meant in. ``matches``: whether one of them is the inventory's (None:
    not compared). ``boot_device``: what it will boot from by order of the BMC. ``events``: the last entries of its log.
    ``default_password``: whose factory password it is, "" if none. ``warnings``: for people, with the remedy.
    """

    problem: str = ""
    kind: Kind | Literal[""] = ""
    on: bool | None = None
    uuids: tuple[str, ...] = ()
    matches: bool | None = None
    boot_device: str = ""
    sensors: tuple[Sensor, ...] = ()
    events: tuple[str, ...] = ()
    default_password: str = ""
    warnings: tuple[str, ...] = ()
    took_ms: int = 0


def read(bmc: Bmc, limit: Limit) -> bool:
    """Return whether the BMC reports its machine on. Raises: BmcFailure."""
    with bmc.login(limit) as chassis:
        return chassis.is_on()


def order(
    bmc: Bmc, action: Action, limit: Limit, may_send: Callable[[], None], seen_off: Callable[[], None] = lambda: None
) -> bool:
    """Carry out a power order and return the state read back, which is the one ordered.

    ``may_send`` is called immediately before each command and raises BmcFailure if it must not be sent any more;
    ``seen_off`` when a reading proved the machine off. A cycle is off, read back, then on: the BMC's own cycle cannot
    be proved to have been off. Raises: BmcFailure; ``failed`` if the BMC reports the contrary until the limit.
    """
    with bmc.login(limit) as chassis:
        on = chassis.is_on()
        if action != "on":
            if on:
                _switch(chassis, False, limit, may_send)
            seen_off()
            on = False
        if action != "off" and not on:
            may_send()
            _boot_from_network(chassis)
            _switch(chassis, True, limit, may_send)
            on = True
        return on


def _boot_from_network(chassis: Chassis) -> None:
    """Ask for one boot from the network. A BMC without boot options still switches: then the firmware's order rules."""
    try:
        chassis.boot_from_network()
    except BmcFailure as failure:
        if failure.kind != "failed":
            raise


def _switch(chassis: Chassis, on: bool, limit: Limit, may_send: Callable[[], None]) -> None:
    """Send one switch and read until it has happened. An error counts only if the state is not as ordered anyway."""
    word = "on" if on else "off"
    error = ""
    may_send()
    try:
        chassis.switch(on)
    except BmcFailure as failure:
        if failure.kind != "failed":
            raise
        error = f": {failure.detail}"
    while chassis.is_on() != on:
        if error:
            raise BmcFailure("failed", f"the BMC refused to switch {word}{error}")
        if limit.left_ms <= POLL_MS:
            raise BmcFailure("failed", f"after {word} the BMC still reports {'off' if on else 'on'}")
        time.sleep(POLL_MS / 1_000)


def password_of(table: BmcTable) -> str:
    """Read a BMC's password: the first line of its file.

    Raises: BmcFailure (credentials) if there is none, or if others than its owner may read it.
    """
    path = table.password_file
    if path is None:
        raise BmcFailure("credentials", "the inventory names no password_file for this BMC")
    return _password(path)


def _password(path: Path) -> str:
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not utf-8"
        needed = "a file of its owner's only (chmod 600) whose first line is the BMC's password"
        raise BmcFailure("credentials", f"password file {path} cannot be read ({why}); needed: {needed}") from error
    if mode & 0o077:
        raise BmcFailure("credentials", f"password file {path} has mode {mode:04o}; needed: chmod 600")
    word = text.split("\n", 1)[0].rstrip("\r")
    if not word:
        raise BmcFailure("credentials", f"password file {path} is empty; needed: the password as its first line")
    return word


DEFAULTS: dict[tuple[str, str], str] = {
    ("ADMIN", "ADMIN"): "Supermicro",
    ("root", "calvin"): "Dell iDRAC",
    ("USERID", "PASSW0RD"): "IBM IMM, Lenovo XCC",
    ("admin", "admin"): "Fujitsu iRMC, ASUS iKVM, ASRock Rack",
    ("root", "changeme"): "Oracle ILOM",
    ("root", "0penBmc"): "OpenBMC",
    ("admin", "password"): "Cisco CIMC, Gigabyte",
    ("root", "root"): "generic",
    ("Administrator", "password"): "generic",
    ("Administrator", "Admin@9000"): "Huawei iBMC",
}
"""Factory passwords. HPE's are random, on the machine's tag; Supermicro's too since 2020.

Source: D. Farmer, H. D. Moore, "A Penetration Tester's Guide to IPMI and BMCs" (2013), table of vendors; OpenBMC,
docs/development, default account; the manuals of Cisco CIMC, Gigabyte MergePoint and Huawei iBMC.
"""


def same_uuid(wanted: str, found: tuple[str, ...]) -> bool | None:
    """Say whether ``wanted`` is among the UUIDs found, however it is written; None if either is unknown."""
    if not wanted or not any(found):
        return None
    return wanted.replace("-", "").lower() in {text.replace("-", "").lower() for text in found}


def default_password(user: str, password: str) -> str:
    """Name the vendor that ships this user with this password; "" if none is known to."""
    known = DEFAULTS.get((user, password), "")
    return known or ("the user's own name" if user and user.lower() == password.lower() else "")
