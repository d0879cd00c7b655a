"""What an agent and its node's netboot service say to each other: JSON lines over a Unix socket, one record a line.

The service outlives the agent. Whoever connects is the agent, the last one alone. Events are numbered and told again
to the next agent until one has said that it heard them.
"""

import msgspec

from core.effects import AllowBoot
from core.events import BootSeen, JoinAdmitted, JoinRefused

SOCKET = "netboot.sock"
"""Its name in ``run_dir``."""
LINE_MAX = 1 << 16


class Said(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="said"):
    """What every record on the socket has in common."""


# -- the agent says ----------------------------------------------------------------------------------------------------


class Allow(Said, frozen=True, kw_only=True):
    """Carry out an effect: let a machine boot with ``address`` until ``until_ms`` (the machine's clock, one for all).

    ``key`` names this order: the same one again changes nothing, so that it can be repeated after a broken connection.
    """

    key: str
    effect: AllowBoot
    address: str
    until_ms: int


class Heard(Said, frozen=True, kw_only=True):
    """Every event up to this number has arrived."""

    number: int


# -- the service says --------------------------------------------------------------------------------------------------


class Welcome(Said, frozen=True, kw_only=True):
    """The service is there: process ``pid``, on node ``node``."""

    pid: int
    node: str


class Told(Said, frozen=True, kw_only=True):
    """An event for the machine; the host stamps it."""

    number: int
    event: BootSeen | JoinAdmitted | JoinRefused


FromAgent = Allow | Heard
FromService = Welcome | Told

_encoder = msgspec.json.Encoder()
_from_agent: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)
_from_service: msgspec.json.Decoder[FromService] = msgspec.json.Decoder(FromService)


def encode(said: FromAgent | FromService) -> bytes:
    """One line with its newline."""
    return _encoder.encode(said) + b"\n"


def decode_from_agent(line: bytes) -> FromAgent:
    """Read one line of an agent. Raises: msgspec.DecodeError."""
    return _from_agent.decode(line)


def decode_from_service(line: bytes) -> FromService:
    """Read one line of the service. Raises: msgspec.DecodeError."""
    return _from_service.decode(line)
