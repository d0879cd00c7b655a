"""The right of an address to be used, as a deadline in the kernel: nothing passes without it, whatever stops or dies.

An announced address is *guarded*: packets to or from it, and answers about who has it, pass only while it has a right.
A right is an element with a timeout in a set of nftables. It ends by itself even if every process of the node stands
still; the supervisor only ever pushes it forward.
"""

import ipaddress
import threading
from collections.abc import Callable, Iterable

from drivers.address import Interface, IPAddress, NoInterface
from drivers.clock import now_ms
from drivers.config import AddressTable
from drivers.nft import NoTables, Sets

LATE_MS = 50
"""A deadline is sent as time left. If sending took longer than this, the process may have been stopped in between, and
the kernel counts from too late a moment: the rest is sent again. What is let through is a part of ``withdraw_ms``."""
TRIES_MAX = 3
REPEAT_MS = (200, 1_000, 5_000)
"""Ages of an announcement at which neighbours are told once more: one lost frame must not cost them half a minute."""

NotPossible = (NoTables, NoInterface)
"""What every method of ``Rights`` may raise: the sentence says what the kernel refused."""


class _Standing:
    """What is known of one announced or allowed address."""

    __slots__ = ("announced_ms", "told", "until_ms")

    def __init__(self) -> None:
        self.announced_ms = -1
        self.told = 0
        self.until_ms = -1


class Rights:
    """The addresses of services on one interface, in the network namespace of the thread that makes it. Thread-safe.

    ``addresses`` (all that the catalog has) are guarded and off from the start, so that what a killed supervisor left
    behind is unreachable. Raises: NoTables, NoInterface with a sentence for people, here and from every method.
    """

    def __init__(self, table: AddressTable, addresses: Iterable[str] = (), clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._standing: dict[IPAddress, _Standing] = {}
        self._interface = Interface(table.interface, table.prefix)
        self._sets = Sets()
        for text in addresses:
            address = ipaddress.ip_address(text)
            self._standing[address] = _Standing()
            self._sets.guard(address)
            self._interface.remove(address)

    def announce(self, address: str) -> None:
        """Bring the address up, guarded, and tell the switches; it is reachable while it also has a right."""
        with self._lock:
            key, standing = self._at(address)
            self._on_tables(lambda: self._sets.guard(key))
            if standing.announced_ms < 0:
                self._interface.add(key)
                standing.announced_ms, standing.told = self._clock(), 0
            self._interface.tell(key)

    def withdraw(self, address: str) -> None:
        """Take the address off. A right it has lasts on, for nothing."""
        with self._lock:
            key, standing = self._at(address)
            standing.announced_ms = -1
            self._interface.remove(key)

    def allow(self, address: str, until_ms: int) -> None:
        """Let the address be used until ``until_ms`` of the node's clock; only ever pushes forward.

        What would have ended already is no right.
        """
        with self._lock:
            key, standing = self._at(address)
            if until_ms <= standing.until_ms:
                return
            for _ in range(TRIES_MAX):
                sent_ms = self._clock()
                if until_ms <= sent_ms:
                    break
                self._on_tables(lambda left=until_ms - sent_ms: self._sets.push(key, left))  # type: ignore[misc]  # bound now
                if self._clock() - sent_ms <= LATE_MS:
                    standing.until_ms = until_ms
                    self._repeat(key, standing)
                    return
            self._revoke(key, standing)

    def revoke(self, address: str) -> None:
        """End the right now; the address stays up, unreachable, until it is withdrawn."""
        with self._lock:
            self._revoke(*self._at(address))

    def close(self) -> None:
        """Take every address off and remove the tables: an orderly end."""
        with self._lock:
            for address in self._standing:
                self._interface.remove(address)
            self._interface.close()
            self._sets.close(remove=True)

    def _at(self, address: str) -> tuple[IPAddress, _Standing]:
        key = ipaddress.ip_address(address)
        return key, self._standing.setdefault(key, _Standing())

    def _revoke(self, key: IPAddress, standing: _Standing) -> None:
        standing.until_ms = -1
        self._on_tables(lambda: self._sets.drop(key))

    def _repeat(self, key: IPAddress, standing: _Standing) -> None:
        """Tell the neighbours again if it is time; this rides on the pushes and needs no thread."""
        if standing.announced_ms < 0 or standing.told == len(REPEAT_MS):
            return
        if self._clock() - standing.announced_ms >= REPEAT_MS[standing.told]:
            standing.told += 1
            self._interface.tell(key)

    def _on_tables(self, change: Callable[[], None]) -> None:
        """Change a set; make the tables anew first if somebody flushed the ruleset of this node."""
        try:
            change()
        except FileNotFoundError:
            self._sets.rebuild()
            for address in self._standing:
                self._sets.guard(address)
            change()
