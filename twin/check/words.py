"""Schedules in words: what each action is, and what the machines did about it."""

from typing import Any

from core import effects as fx
from core import events as ev
from twin.check.codes import CODES, Action, event_of
from twin.check.faults import WORDS
from twin.check.world import World

_ENDS = {
    "thaw": "thaws",
    "uncut": "reaches ZooKeeper again",
    "storage_uncut": "reaches the storage again",
    "unlie": "is heard again, and its BMC tells the truth",
    "boot": "boots",
    "restart": "has its agent started again",
    "unstall": "the storage answers again",
    "stall": WORDS["stall"],
}
_STRIKES = {
    "freeze": "freezes",
    "cut": "is cut off from ZooKeeper",
    "storage_cut": "is cut off from the storage",
    "crash": "loses power",
    "agent": "loses its agent; its services live on",
    "lie": "is not heard by its peers any more, and its BMC says off though it runs",
}
_QUIET = (fx.SetTimer, fx.CancelTimer, fx.StartBeat, fx.StopBeat, fx.Note, fx.ListenTo, fx.Mirror, fx.Unmirror)
"""Effects that a schedule in words leaves out."""


def is_fault(action: Action) -> bool:
    """Whether an action is a fault that strikes."""
    return action[0] in WORDS


def in_words(world: World, action: Action) -> str:
    """Say what an action is, given the world in which it is about to happen."""
    name = action[0]
    if name == "tick":
        return f"{world.options.tick_ms} ms pass"
    if name in ("stall", "unstall"):
        return _ENDS[name]
    if name in ("force", "land", "vanish", "store", "expire"):
        return _of_the_rack(world, action)
    node = world.nodes[action[1]]
    if name in _STRIKES or name in _ENDS:
        return f"{node.name} {_STRIKES.get(name) or _ENDS[name]}"
    return f"{node.name} {_of_a_node(world, action)}"


def _of_the_rack(world: World, action: Action) -> str:
    match action[0]:
        case "force":
            return f"the fence of {_instance(action[1])} is in force"
        case "land":
            return f"a write of {_instance(action[1].instance)} lands"
        case "vanish":
            return f"a write of {_instance(action[1].instance)} is lost on its way"
        case "expire":
            return f"ZooKeeper expires session {action[1]} of {world.zk.sessions[action[1]][0]}"
        case _:
            request = action[1]
            stage = " is set, not yet in force" if isinstance(request.effect, fx.FenceInstance) else " is done"
            done = "" if request.stage else stage
            return f"the storage: {request.node}'s {effect_words(request.effect)}{done or ' is confirmed'}"


def _of_a_node(world: World, action: Action) -> str:
    node = world.nodes[action[1]]
    match action[0]:
        case "in":
            return f"is told by ZooKeeper: {event_words(event_of(node.inbox[0]))}"
        case "arrive":
            return f"is told: {event_words(event_of(action[2]))}"
        case "answer":
            answer = node.answers[0]
            return f"is told that its {answer.kind} beat of {answer.service} was {answer.outcome}"
        case "timer":
            return f"has its timer {action[2]} fire"
        case "expire_right":
            return f"lets the right of {action[2]} run out: its address is off, it is suspended"
        case "zk":
            return f"has its request taken by ZooKeeper: {effect_words(CODES.values[node.outbox[0].effect])}"
        case "lost":
            return f"has its request to ZooKeeper lost: {effect_words(CODES.values[node.outbox[0].effect])}"
        case "beat":
            return f"has its {action[2][1]} beat of {action[2][0]} taken"
        case "write":
            return f"begins a client's write to {action[2]}"
        case _:
            return f"has done: {effect_words(CODES.values[action[2].effect])}"


def event_words(event: ev.AnyEvent) -> str:
    """Say what an event tells a machine."""
    match event:
        case ev.RecordsChanged():
            paths = [
                f"{change.path.removeprefix('/moxie')}{'' if change.data else ' gone'}" for change in event.changes
            ]
            return ", ".join(paths) or f"nothing at {', '.join(event.roots)}"
        case ev.OpSucceeded():
            return f"{type(event.result).__name__} (op {event.op})"
        case ev.OpFailed():
            return f"{event.reason} (op {event.op})"
        case ev.SessionOpened():
            return f"session {event.session} is {'resumed' if event.resumed else 'open'}"
        case ev.SessionEnded():
            return f"session {event.session} is over"
        case ev.PeerSilent():
            return f"{event.node} is silent"
        case ev.PeerHeard():
            return f"{event.node} is heard"
        case ev.RightExpired():
            return f"the right of {event.service} ran out"
        case ev.StorageSeen():
            return "the storage answers" if event.ok else "the storage is out of reach"
        case ev.BootSeen() | ev.JoinAdmitted() | ev.JoinRefused():
            return f"{type(event).__name__} {event.node}"
        case ev.Started() | ev.TimerFired() | ev.BeatAnswered() | ev.ServiceExited():
            return type(event).__name__


def effect_words(effect: Any) -> str:
    """Say what a machine asked for."""
    if isinstance(effect, fx.Commit):
        return "commit " + ", ".join(_write(write) for write in effect.writes)
    if isinstance(effect, fx.Read):
        return "read " + ", ".join(path.removeprefix("/moxie") for path in effect.paths)
    of = [
        str(getattr(effect, name)) for name in ("service", "volume", "node", "path", "session") if hasattr(effect, name)
    ]
    instance = getattr(effect, "instance", None)
    more = [_instance(instance)] if instance is not None else []
    return " ".join([type(effect).__name__, *of, *more])


def _write(write: fx.Write) -> str:
    path = write.path.removeprefix("/moxie")
    epoch = getattr(getattr(write, "data", None), "epoch", None)
    return f"{type(write).__name__.lower()} {path}" + (f" (epoch {epoch})" if epoch is not None else "")


def _instance(instance: Any) -> str:
    return f"{instance.address} (epoch {instance.epoch})"


def consequences(effects: list[tuple[int, fx.AnyEffect]], world: World) -> list[str]:
    """Say what machines asked for in one step, without what is only about timers and beats."""
    return [
        f"{world.nodes[index].name} asks for {effect_words(effect)}"
        for index, effect in effects
        if not isinstance(effect, _QUIET)
    ]
