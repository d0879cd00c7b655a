"""One node of the small world: power, agent, supervisor, connection, and everything under way on it."""

from collections.abc import Hashable
from operator import attrgetter

import msgspec

from core.ids import Epoch
from core.records import Instance


class Service(msgspec.Struct, frozen=True):
    """A service at its supervisor, which outlives the agent.

    ``memory`` is what the service believes the volume holds.
    """

    epoch: Epoch
    instance: Instance | None
    running: bool = True
    suspended: bool = False
    announced: bool = False
    memory: tuple[int, ...] = ()
    expired: bool = False

    def with_(self, **fields: object) -> "Service":
        return msgspec.structs.replace(self, **fields)


class Beat(msgspec.Struct, frozen=True):
    """A standing beat; ``asked_at_ms`` is -1 while none is out."""

    effect: int
    next_at_ms: int
    asked_at_ms: int = -1


class Waiting(msgspec.Struct, frozen=True):
    """A request under way; ``effect`` is its number, ``incarnation`` the agent process that asked."""

    incarnation: int
    effect: int
    fail_at_ms: int


class Answer(msgspec.Struct, frozen=True):
    """A beat's answer on its way to the agent."""

    service: str
    epoch: Epoch
    kind: str
    asked_at_ms: int
    outcome: str


_COPIED = ("timers", "beats", "services", "rights", "heard", "evidence", "claims")
_PLAIN = (
    "name", "boot", "power", "frozen", "agent", "incarnation", "brain", "session", "connected", "wants_session",
    "cut", "storage_cut", "lying", "lied", "mirrors", "inbox", "outbox", "hanging", "local",
    "arrivals", "answers", "listens", "server", "gave_away", "unsettled",
)  # fmt: skip
_plain_of, _copied_of = attrgetter(*_PLAIN), attrgetter(*_COPIED)


class Node:
    """Mutable; ``copy`` before changing one that is shared."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boot = 0
        self.power = "off"  # off, up, booting
        self.frozen = False
        self.agent = False
        self.incarnation = 0
        self.brain = -1
        self.session = 0
        self.connected = False
        self.wants_session = False
        self.cut = False
        self.storage_cut = False
        self.lying = self.lied = False
        self.server = False
        self.mirrors: tuple[tuple[str, str], ...] = ()
        self.inbox: tuple[int, ...] = ()
        self.outbox: tuple[Waiting, ...] = ()
        self.hanging: tuple[Waiting, ...] = ()
        self.local: tuple[Waiting, ...] = ()
        self.arrivals: tuple[int, ...] = ()
        self.answers: tuple[Answer, ...] = ()
        self.listens: tuple[str, ...] = ()
        self.gave_away: tuple[tuple[str, int], ...] = ()  # (service, epoch) whose release was submitted
        self.unsettled: tuple[str, ...] = ()  # services whose claim was not answered and not read back
        self.timers: dict[str, int] = {}
        self.beats: dict[tuple[str, str], Beat] = {}
        self.services: dict[str, Service] = {}
        self.rights: dict[str, tuple[int, int]] = {}  # service -> (epoch, until)
        self.heard: dict[str, tuple[bool, int]] = {}  # peer -> (told that it is heard, silent since or -1)
        self.evidence: dict[tuple[str, str], tuple[int, int]] = {}  # (service, kind) -> (epoch, truly asked at)
        self.claims: dict[str, tuple[int, int, int]] = {}  # service -> (epoch, claimed at, last fence in force at)
        self.number = -1

    def copy(self) -> "Node":
        """Return an independent node in the same state."""
        other = Node.__new__(Node)
        fields = other.__dict__
        fields.update(self.__dict__)
        for field in _COPIED:
            fields[field] = fields[field].copy()
        other.number = -1
        return other

    def key(self) -> Hashable:
        """Equal for equal states."""
        return _plain_of(self), *[tuple(sorted(part.items())) if part else () for part in _copied_of(self)]

    @property
    def awake(self) -> bool:
        return self.power == "up" and not self.frozen

    @property
    def alive(self) -> bool:
        """Whether the agent can take an event now."""
        return self.power == "up" and not self.frozen and self.agent

    def boot_id(self) -> str:
        return f"{self.name}-boot{self.boot}"
