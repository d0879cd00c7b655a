"""What an agent and its node's supervisor say to each other: JSON lines over a Unix socket, one record a line.

The supervisor outlives the agent. It runs services and this node's ZooKeeper server, holds volumes open, asks the
storage beats, enforces rights, sends and hears the peers' heartbeats. Whoever connects with ``Hello`` is the agent.
"""

import msgspec

from core import effects as fx
from core.events import AnyEvent, Running
from core.ids import BootId, Epoch, OpId, ServiceName, VolumeName
from core.records import Instance, MachineRecord


class Said(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="said"):
    """What every record on the socket has in common."""


# -- the agent says ----------------------------------------------------------------------------------------------------


class Hello(Said, frozen=True, kw_only=True):
    """I am the agent of this node, process ``pid``."""

    pid: int
    version: str


class Order(Said, frozen=True, kw_only=True):
    """Carry out an effect; events about it come back in ``Told``. Coordination beats stay in the agent."""

    effect: (
        fx.StartService
        | fx.StopService
        | fx.SuspendService
        | fx.ResumeService
        | fx.AnnounceAddress
        | fx.WithdrawAddress
        | fx.StartBeat
        | fx.StopBeat
        | fx.ArmRight
        | fx.ListenTo
    )


class Attach(Said, frozen=True, kw_only=True):
    """Open ``volume`` in a process of its own, without writing to it; answered by ``Attached``."""

    op: OpId
    service: ServiceName
    volume: VolumeName
    epoch: Epoch
    ms_max: int


class Name(Said, frozen=True, kw_only=True):
    """The storage calls what was attached for ``epoch`` by this name."""

    volume: VolumeName
    epoch: Epoch
    instance: Instance


class Detach(Said, frozen=True, kw_only=True):
    """Flush and close; answered by ``Detached``. ``instance`` None: what was attached and never named."""

    op: OpId
    volume: VolumeName
    epoch: Epoch
    instance: Instance | None
    ms_max: int


class RunServer(Said, frozen=True, kw_only=True):
    """Run this node's ZooKeeper server with this command and keep it running; one that runs already is left alone."""

    argv: tuple[str, ...]
    log: str


class EndServer(Said, frozen=True, kw_only=True):
    """Stop this node's ZooKeeper server and forget its command; answered by ``ServerEnded``."""

    op: OpId


class Alive(Said, frozen=True, kw_only=True):
    """The machine stepped (or had nothing to do): the hardware watchdog may be fed."""


class Machines(Said, frozen=True, kw_only=True):
    """All machines that were found and are nodes, as their records say (``drivers.roster``)."""

    records: tuple[MachineRecord, ...]


class Leaving(Said, frozen=True, kw_only=True):
    """The agent handed everything over and ends; it is not to be started again until the supervisor is told so."""


# -- the supervisor says -----------------------------------------------------------------------------------------------


class Welcome(Said, frozen=True, kw_only=True):
    """What the agent's ``Started`` is made from; what died while nobody listened follows as ``Told``."""

    boot_id: BootId
    incarnation: int
    running: tuple[Running, ...] = ()
    server: bool = False


class Told(Said, frozen=True, kw_only=True):
    """An event for the machine; the host stamps it."""

    event: AnyEvent


class Attached(Said, frozen=True, kw_only=True):
    """The volume is open (``error`` empty) and nothing was written, or why not; ``refused``: somebody holds it."""

    op: OpId
    error: str = ""
    refused: bool = False


class Detached(Said, frozen=True, kw_only=True):
    """Everything reached the storage and the volume is closed, or (``error``) not."""

    op: OpId
    error: str = ""


class ServerEnded(Said, frozen=True, kw_only=True):
    """This node's ZooKeeper server is gone."""

    op: OpId


FromAgent = Hello | Order | Attach | Name | Detach | RunServer | EndServer | Alive | Machines | Leaving
FromSupervisor = Welcome | Told | Attached | Detached | ServerEnded

_encoder = msgspec.json.Encoder()
_from_agent: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)
_from_supervisor: msgspec.json.Decoder[FromSupervisor] = msgspec.json.Decoder(FromSupervisor)


def encode(said: FromAgent | FromSupervisor) -> bytes:
    """One line with its newline."""
    return _encoder.encode(said) + b"\n"


def decode_from_agent(line: bytes) -> FromAgent:
    """Read one line of an agent. Raises: msgspec.DecodeError."""
    return _from_agent.decode(line)


def decode_from_supervisor(line: bytes) -> FromSupervisor:
    """Read one line of the supervisor. Raises: msgspec.DecodeError."""
    return _from_supervisor.decode(line)
