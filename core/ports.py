"""What a host must offer a machine: one narrow port per capability, and the exhaustive way from effect to port.

A port's ``submit`` returns at once. For an effect with an ``op``, exactly one ``OpSucceeded`` or ``OpFailed`` is
emitted later, at the latest when the effect's own limit has passed. ``emit`` may be called from within ``submit``;
the host queues it.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from core import effects as fx
from core.events import AnyEvent

Emit = Callable[[AnyEvent], None]

CoordinationEffect = (
    fx.OpenSession
    | fx.Commit
    | fx.Read
    | fx.CloseSession
    | fx.Mirror
    | fx.Unmirror
    | fx.Reconfigure
    | fx.StartServer
    | fx.StopServer
    | fx.ListenTo
)
EvidenceEffect = fx.StartBeat | fx.StopBeat | fx.ArmRight
StorageEffect = fx.OpenVolume | fx.CloseVolume | fx.FenceInstance | fx.LiftBlock
WorkloadEffect = fx.StartService | fx.StopService | fx.SuspendService | fx.ResumeService
AddressEffect = fx.AnnounceAddress | fx.WithdrawAddress
PowerEffect = fx.ReadPower | fx.PowerOrder | fx.ReadConsole | fx.Scan
ImageEffect = fx.StageImage | fx.RestartInto | fx.KeepImage
NetbootEffect = fx.AllowBoot
HostEffect = fx.SetTimer | fx.CancelTimer | fx.Note | fx.Exit


class CoordinationPort(Protocol):
    """Sessions, transactions, mirrors, the node's own ZooKeeper server, and the peers' heartbeats."""

    def submit(self, effect: CoordinationEffect, emit: Emit) -> None: ...


class EvidencePort(Protocol):
    """Standing beats and the rights armed outside the agent (rules 5 and 11)."""

    def submit(self, effect: EvidenceEffect, emit: Emit) -> None: ...


class StoragePort(Protocol):
    """Volumes with exclusive opening, fencing with barrier."""

    def submit(self, effect: StorageEffect, emit: Emit) -> None: ...


class WorkloadPort(Protocol):
    """The supervisor of the node's services."""

    def submit(self, effect: WorkloadEffect, emit: Emit) -> None: ...


class AddressPort(Protocol):
    """Virtual addresses of services."""

    def submit(self, effect: AddressEffect, emit: Emit) -> None: ...


class PowerPort(Protocol):
    """The BMCs of the other machines: power, consoles, and finding them."""

    def submit(self, effect: PowerEffect, emit: Emit) -> None: ...


class NetbootPort(Protocol):
    """The boot server of this node."""

    def submit(self, effect: NetbootEffect, emit: Emit) -> None: ...


class ImagePort(Protocol):
    """What this machine boots: its slots, and restarting into one."""

    def submit(self, effect: ImageEffect, emit: Emit) -> None: ...


class HostPort(Protocol):
    """The loop around the machine: timers, notes, its own end."""

    def submit(self, effect: HostEffect, emit: Emit) -> None: ...


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """One implementation of each port."""

    host: HostPort
    coordination: CoordinationPort
    evidence: EvidencePort
    storage: StoragePort
    workload: WorkloadPort
    address: AddressPort
    power: PowerPort
    netboot: NetbootPort
    image: ImagePort


def route(effect: fx.AnyEffect, ports: Ports, emit: Emit) -> None:
    """Hand an effect to the one port that owns it."""
    match effect:
        case fx.ArmRight() | fx.StartBeat() | fx.StopBeat():
            ports.evidence.submit(effect, emit)
        case fx.SetTimer() | fx.CancelTimer() | fx.Note() | fx.Exit():
            ports.host.submit(effect, emit)
        case (
            fx.OpenSession()
            | fx.Commit()
            | fx.Read()
            | fx.CloseSession()
            | fx.Mirror()
            | fx.Unmirror()
            | fx.Reconfigure()
            | fx.StartServer()
            | fx.StopServer()
            | fx.ListenTo()
        ):
            ports.coordination.submit(effect, emit)
        case fx.OpenVolume() | fx.CloseVolume() | fx.FenceInstance() | fx.LiftBlock():
            ports.storage.submit(effect, emit)
        case fx.StartService() | fx.StopService() | fx.SuspendService() | fx.ResumeService():
            ports.workload.submit(effect, emit)
        case fx.AnnounceAddress() | fx.WithdrawAddress():
            ports.address.submit(effect, emit)
        case fx.ReadPower() | fx.PowerOrder() | fx.ReadConsole() | fx.Scan():
            ports.power.submit(effect, emit)
        case fx.AllowBoot():
            ports.netboot.submit(effect, emit)
        case fx.StageImage() | fx.RestartInto() | fx.KeepImage():
            ports.image.submit(effect, emit)
