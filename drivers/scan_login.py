"""Logging in at BMCs that may be tried: few at once, each credential at most once a look, and rarely where refused."""

import threading
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256

import msgspec

from drivers.bmc import Bmc, BmcFailure, Chassis, Limit, password_of
from drivers.calls import CallCounts, Calls
from drivers.inventory import BmcTable

REFUSED_MS = 3_600_000
"""Credentials that a BMC refused are not tried there again for so long, unless they were changed."""
LOGIN_MS_MAX = 3_000
GRACE_MS = 100
"""How long before the end of a look a login is given up, so that what is known by then is told."""
TOO_LATE = "nobody could log in within the time of this look"
REMEMBERED_MAX = 10_000


class Login(msgspec.Struct):
    """What came of logging in at one BMC.

    ``refused``: names of credentials; ``broken``: what is wrong with ours; ``untrusted``: why no password was sent.
    """

    access: str = ""
    table: BmcTable | None = None
    guid: str = ""
    on: bool | None = None
    refused: list[str] = []
    broken: str = ""
    untrusted: str = ""
    silent: str = ""
    over: bool = False


class Logins:
    """All logins of one process. ``bmc_of`` makes the driver of a BMC."""

    def __init__(self, bmc_of: Callable[[BmcTable], Bmc | None], now_ms: Callable[[], int]) -> None:
        self._bmc_of = bmc_of
        self._now_ms = now_ms
        self._calls = Calls(now_ms)
        self._changed = threading.Condition()
        self._refused: dict[tuple[str, str], int] = {}

    def counts(self) -> CallCounts:
        """Return how many wait and run."""
        return self._calls.counts()

    def begin(self, address: str, tries: Sequence[tuple[str, BmcTable]], until_ms: int, told: bool) -> Login:
        """Begin to try credentials by name, in order, in another thread.

        ``told``: somebody else was refused there, so it counts as tried now unless this process knows more.
        """
        with self._changed:
            told = told and not any(known == address for known, _ in self._refused)
        login = Login()

        def run() -> None:
            for name, table in tries:
                left_ms = until_ms - self._now_ms()
                if left_ms > 0 and not login.access:
                    self._try(name, table, login, min(left_ms, LOGIN_MS_MAX), told)
            self._end(login)

        def give_up() -> None:
            login.silent = login.silent or TOO_LATE
            self._end(login)

        if not tries:
            self._end(login)
        elif not self._calls.begin(address, until_ms - GRACE_MS, run, give_up):
            give_up()
        return login

    def wait(self, logins: Collection[Login], until_ms: int) -> tuple[Login, ...]:
        """What came of logins by ``until_ms`` at the latest, in their order; whatever happens later does not show."""
        with self._changed:
            seconds = max(until_ms - self._now_ms(), 0) / 1_000
            self._changed.wait_for(lambda: all(login.over for login in logins), seconds)
            return tuple(msgspec.structs.replace(login, refused=list(login.refused)) for login in logins)

    def _end(self, login: Login) -> None:
        with self._changed:
            login.over = True
            self._changed.notify_all()

    def _try(self, name: str, table: BmcTable, login: Login, ms_max: int, told: bool) -> None:
        """Log in once, unless that was refused lately. ``told``: by a record, before this process could know."""
        try:
            password = password_of(table)
        except BmcFailure as failure:
            login.broken = failure.detail
            return
        key = table.address, sha256(f"{table.user}\0{password}".encode()).hexdigest()
        with self._changed:
            if told:
                self._refuse(key)
            if self._now_ms() - self._refused.get(key, -REFUSED_MS) < REFUSED_MS:
                login.refused.append(name)
                return
        driver = self._bmc_of(table)
        if driver is None:
            return
        try:
            with driver.login(Limit(self._now_ms, self._now_ms() + ms_max)) as chassis:
                on, guid = chassis.is_on(), identity_of(chassis)
        except BmcFailure as failure:
            with self._changed:
                if failure.kind == "credentials":
                    self._refuse(key)
                    login.refused.append(name)
                elif failure.kind == "untrusted":
                    login.untrusted = failure.detail
                else:
                    login.silent = failure.detail
            return
        with self._changed:
            login.access, login.table, login.on, login.guid = name, table, on, guid

    def _refuse(self, key: tuple[str, str]) -> None:
        self._refused[key] = self._now_ms()
        while len(self._refused) > REMEMBERED_MAX:
            del self._refused[next(iter(self._refused))]


def identity_of(chassis: Chassis) -> str:
    try:
        return chassis.identity()
    except BmcFailure:
        return ""
