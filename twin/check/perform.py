"""What each effect of a machine begins in the small world."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import effects as fx
from core import events as ev
from core.records import LeaseRecord, TermRecord
from twin.check import rules
from twin.check.codes import CODES
from twin.check.node import Beat, Waiting
from twin.check.storage import Request

if TYPE_CHECKING:
    from twin.check.world import World


def begin(world: "World", index: int, effect: fx.AnyEffect) -> None:
    """Judge an effect, then begin it."""
    rules.check_effect(world, world.nodes[index], effect)
    BEGIN[type(effect)](world, index, effect)


def _nothing(world: "World", index: int, effect: fx.AnyEffect) -> None:
    pass


def _set_timer(world: "World", index: int, effect: fx.SetTimer) -> None:
    world.own_node(index).timers[effect.timer] = effect.at_ms


def _cancel_timer(world: "World", index: int, effect: fx.CancelTimer) -> None:
    world.own_node(index).timers.pop(effect.timer, None)


def _exit(world: "World", index: int, _: fx.Exit) -> None:
    node = world.own_node(index)
    node.agent = False
    node.timers = {}


def _coordinate(world: "World", index: int, effect: Any) -> None:
    """Send a request to ZooKeeper; while cut off it hangs."""
    node = world.own_node(index)
    limit = getattr(effect, "ms_max", 0)
    waiting = Waiting(node.incarnation, CODES.number(effect), world.now + limit)
    if isinstance(effect, fx.Commit):
        _remember_commit(world, index, effect)
    if not node.cut:
        node.outbox += (waiting,)
    elif isinstance(effect, fx.OpenSession):
        node.wants_session = True
        node.session = effect.resume
    elif isinstance(effect, fx.Mirror):
        node.mirrors += ((effect.path, effect.depth),)
    elif limit:
        node.hanging += (waiting,)


def _remember_commit(world: "World", index: int, commit: fx.Commit) -> None:
    """Note what a commit means, for the rules: a claim, a release."""
    node = world.own_node(index)
    for write in commit.writes:
        if isinstance(write, fx.Create) and isinstance(write.data, LeaseRecord):
            name = write.path.rsplit("/", 1)[1]
            node.claims[name] = (write.data.epoch, world.now, 0)
        if isinstance(write, fx.Put) and isinstance(write.data, TermRecord):
            term = write.data
            own = any(i.node == node.name and i.epoch == term.epoch for i in term.released)
            if (own or term.stopped) and term.holder == node.name:
                node.gave_away += ((write.path.rsplit("/", 1)[1], term.epoch),)


def _listen(world: "World", index: int, effect: fx.ListenTo) -> None:
    node = world.own_node(index)
    node.listens = tuple(effect.nodes)
    node.heard = {name: node.heard.get(name, (False, -1)) for name in effect.nodes}


def _start_server(world: "World", index: int, effect: fx.StartServer | fx.StopServer) -> None:
    node = world.own_node(index)
    node.server = isinstance(effect, fx.StartServer)
    event = ev.OpSucceeded(at_ms=0, op=effect.op, result=ev.Done())
    world.arrive(index, node.incarnation, event)


def _start_beat(world: "World", index: int, effect: fx.StartBeat) -> None:
    node = world.own_node(index)
    asked = world.now if effect.kind == "storage" or not node.cut else -1
    node.beats[effect.service, effect.kind] = Beat(CODES.number(effect), world.now + effect.every_ms, asked)


def _stop_beat(world: "World", index: int, effect: fx.StopBeat) -> None:
    world.own_node(index).beats.pop((effect.service, effect.kind), None)


def _arm(world: "World", index: int, effect: fx.ArmRight) -> None:
    node = world.own_node(index)
    epoch, until = node.rights.get(effect.service, (0, 0))
    if epoch != effect.epoch or until < effect.until_ms:
        node.rights[effect.service] = (effect.epoch, effect.until_ms)


def _store(world: "World", index: int, effect: Any) -> None:
    node = world.nodes[index]
    fail_at = world.now + getattr(effect, "ms_max", world.options.timing.fence_ms_max)
    world.own_storage().requests += (Request(node.name, node.incarnation, effect, fail_at, world.now),)


def _locally(world: "World", index: int, effect: Any) -> None:
    node = world.own_node(index)
    limit = getattr(effect, "ms_max", 1 << 40)
    node.local += (Waiting(node.incarnation, CODES.number(effect), world.now + limit),)


def _stop(world: "World", index: int, effect: fx.StopService) -> None:
    """A supervisor does one thing at a time: a stop ends a start that is under way."""
    node = world.own_node(index)
    for waiting in node.local:
        other = CODES.values[waiting.effect]
        if isinstance(other, fx.StartService) and other.service == effect.service:
            node.local = tuple(kept for kept in node.local if kept != waiting)
            world.fail(index, waiting, "failed")
    _locally(world, index, effect)


def _suspend(world: "World", index: int, effect: fx.SuspendService) -> None:
    _change(world, index, effect.service, effect.epoch, suspended=True, announced=False)


def _resume(world: "World", index: int, effect: fx.ResumeService) -> None:
    _change(world, index, effect.service, effect.epoch, suspended=False, expired=False)


def _announce(world: "World", index: int, effect: fx.AnnounceAddress) -> None:
    _change(world, index, effect.service, effect.epoch, announced=True)


def _withdraw(world: "World", index: int, effect: fx.WithdrawAddress) -> None:
    _change(world, index, effect.service, effect.epoch, announced=False)


def _change(world: "World", index: int, name: str, epoch: int, **fields: object) -> None:
    node = world.own_node(index)
    service = node.services.get(name)
    if service is not None and service.epoch == epoch:
        node.services[name] = service.with_(**fields)


BEGIN: dict[type, Callable[["World", int, Any], None]] = {
    fx.SetTimer: _set_timer,
    fx.CancelTimer: _cancel_timer,
    fx.Note: _nothing,
    fx.Exit: _exit,
    fx.OpenSession: _coordinate,
    fx.Commit: _coordinate,
    fx.Read: _coordinate,
    fx.CloseSession: _coordinate,
    fx.Mirror: _coordinate,
    fx.Unmirror: _coordinate,
    fx.Reconfigure: _coordinate,
    fx.StartServer: _start_server,
    fx.StopServer: _start_server,
    fx.ListenTo: _listen,
    fx.StartBeat: _start_beat,
    fx.StopBeat: _stop_beat,
    fx.ArmRight: _arm,
    fx.OpenVolume: _store,
    fx.CloseVolume: _store,
    fx.FenceInstance: _store,
    fx.LiftBlock: _store,
    fx.StartService: _locally,
    fx.StopService: _stop,
    fx.SuspendService: _suspend,
    fx.ResumeService: _resume,
    fx.AnnounceAddress: _announce,
    fx.WithdrawAddress: _withdraw,
    fx.ReadPower: _locally,
    fx.PowerOrder: _locally,
    fx.AllowBoot: _nothing,
    fx.ReadConsole: _locally,
    fx.Scan: _locally,
    fx.StageImage: _locally,
    fx.RestartInto: _nothing,
    fx.KeepImage: _nothing,
}
