"""Faults of the small world and their ends."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core import effects as fx
from core import events as ev
from core.ids import SessionId
from twin.check.codes import CODES, Action
from twin.check.node import Beat, Node, Waiting

if TYPE_CHECKING:
    from twin.check.world import World
Slots = tuple[tuple[str, ...], ...]
"""Faults that may still strike: for each one, the kinds it may be of. Slots are equal or have no kind in common."""
FAULTS = ("freeze", "cut", "storage_cut", "crash", "agent", "lie", "stall")
WORDS = {
    "freeze": "a node processes nothing for a while and goes on with stale state",
    "cut": "a node is cut off from ZooKeeper; what it sent may or may not have been committed",
    "storage_cut": "a node is cut off from the storage; its writes may still land",
    "crash": "a node loses power and boots again with a new boot id",
    "agent": "an agent dies and is started again; its services live on",
    "lie": "peers stop hearing a running node and its BMC reports it off",
    "stall": "the storage answers nobody for a while",
}


def enabled(world: "World") -> list[Action]:
    """Faults that may strike now, ends of those that did, and a client's next write."""
    found: list[Action] = []
    targets = [i for i, node in enumerate(world.nodes) if node.name in world.options.fault_targets]
    for kind in dict.fromkeys(kind for slot in world.faults_left for kind in slot):
        if kind == "stall":
            found += [] if world.storage.stalled else [("stall",)]
        else:
            found += [(kind, index) for index in targets if can_strike(world.nodes[index], kind)]
    found += ends(world)
    if world.storage.payload < world.options.payloads:
        for index, node in enumerate(world.nodes):
            for name in world.volumes:
                busy = any(flight.node == node.name for flight in world.storage.flights)
                if world.serves(node, name) and not busy and not node.storage_cut:
                    found.append(("write", index, name))
    return found


def can_strike(node: Node, kind: str) -> bool:
    """Whether a fault of this kind can strike a node now."""
    struck = {
        "freeze": node.frozen,
        "cut": node.cut,
        "storage_cut": node.storage_cut,
        "crash": False,
        "agent": not node.agent,
        "lie": node.lying,
    }
    return node.power == "up" and not struck[kind]


def ends(world: "World") -> list[Action]:
    """Ends of the faults that are on."""
    found: list[Action] = [("unstall",)] if world.storage.stalled else []
    for index, node in enumerate(world.nodes):
        if node.frozen:
            found.append(("thaw", index))
        if node.cut:
            found.append(("uncut", index))
        if node.storage_cut:
            found.append(("storage_uncut", index))
        if node.lying:
            found.append(("unlie", index))
        if node.power != "up":  # a boot takes longer than any write is under way
            if all(flight.node != node.name for flight in world.storage.flights):
                found.append(("boot", index))
        elif not node.agent:
            found.append(("restart", index))
    return found


def _spend(world: "World", kind: str) -> None:
    for index, slot in enumerate(world.faults_left):
        if kind in slot:
            world.faults_left = world.faults_left[:index] + world.faults_left[index + 1 :]
            return


def freeze(world: "World", index: int) -> None:
    _spend(world, "freeze")
    world.own_node(index).frozen = True


def thaw(world: "World", index: int) -> None:
    node = world.own_node(index)
    node.frozen = False
    for name, service in node.services.items():  # the kernel took the address off at its deadline, thawed or not
        right = node.rights.get(name)
        if right is not None and right[0] == service.epoch and right[1] <= world.now:
            node.services[name] = service.with_(announced=False)


def cut(world: "World", index: int) -> None:
    """Cut a node off from ZooKeeper; what it has sent may still be taken."""
    _spend(world, "cut")
    node = world.own_node(index)
    node.cut = True
    node.connected = False
    for key, beat in list(node.beats.items()):
        if key[1] == "coordination":
            node.beats[key] = Beat(beat.effect, beat.next_at_ms)


def uncut(world: "World", index: int) -> None:
    """The connection comes back: what hung failed, then the session goes on or is over."""
    node = world.own_node(index)
    node.cut = False
    hanging, node.hanging = node.hanging, ()
    if not node.agent:
        return
    for waiting in hanging:
        world.post(index, unanswered(waiting))
    session = node.session
    if node.wants_session:
        node.wants_session = False
        code = CODES.number(fx.OpenSession(resume=SessionId(session)))
        node.outbox += (Waiting(node.incarnation, code, world.now),)
    elif session in world.zk.sessions:
        node.connected = True
        world.own_zk().sessions[session] = (node.name, world.now + world.options.timing.session_timeout_ms)
        world.post(index, ev.SessionOpened(at_ms=0, session=SessionId(session), resumed=True))
        for path, depth in node.mirrors:
            found = world.zk.below(path, depth)
            world.post(index, ev.RecordsChanged(at_ms=0, changes=found, resync=True, roots=(path,)))
    elif session:
        world.lose_session(index)


def unanswered(waiting: Waiting) -> ev.OpFailed:
    """Return the failure of a request that got no answer; nobody knows its outcome."""
    effect: Any = CODES.values[waiting.effect]
    claim = isinstance(effect, fx.Commit) and any(
        isinstance(write, fx.Create) and write.path.startswith("/moxie/leases/") for write in effect.writes
    )
    return ev.OpFailed(at_ms=0, op=effect.op, reason="unanswered", detail="claim" if claim else "")


def storage_cut(world: "World", index: int) -> None:
    _spend(world, "storage_cut")
    node = world.own_node(index)
    node.storage_cut = True
    if node.agent:
        world.arrive(index, node.incarnation, ev.StorageSeen(at_ms=0, ok=False))


def storage_uncut(world: "World", index: int) -> None:
    node = world.own_node(index)
    node.storage_cut = False
    if node.agent:
        world.arrive(index, node.incarnation, ev.StorageSeen(at_ms=0, ok=True))


def crash(world: "World", index: int) -> None:
    _spend(world, "crash")
    power_off(world, index)


def power_off(world: "World", index: int) -> None:
    """Take a node's power: everything on it is gone, what it sent may still arrive."""
    node = world.own_node(index)
    boot_id = node.boot_id()
    kill_agent(node)
    node.power = "off"
    node.frozen = node.lying = node.lied = False
    node.session = 0
    node.services, node.beats, node.rights, node.evidence = {}, {}, {}, {}
    node.claims = {}
    node.gave_away = ()
    node.local = ()
    storage = world.own_storage()
    for instance in storage.instances:
        if instance.node == node.name and instance.boot_id == boot_id:
            storage.instances[instance] = "dead"
    storage.requests = tuple(request for request in storage.requests if request.node != node.name)


def kill_agent(node: Node) -> None:
    """End the agent process and all it had under way; storage beats are the supervisor's."""
    node.agent = False
    node.connected = node.wants_session = False
    node.timers, node.heard = {}, {}
    node.inbox = node.arrivals = ()
    node.answers = ()
    node.hanging = ()
    node.mirrors = ()
    node.unsettled = ()
    node.listens = ()
    node.beats = {key: beat for key, beat in node.beats.items() if key[1] == "storage"}


def boot(world: "World", index: int) -> None:
    node = world.own_node(index)
    node.power = "up"
    node.boot += 1
    world.start_agent(index)


def agent(world: "World", index: int) -> None:
    _spend(world, "agent")
    kill_agent(world.own_node(index))


def restart(world: "World", index: int) -> None:
    world.start_agent(index)


def lie(world: "World", index: int) -> None:
    _spend(world, "lie")
    node = world.own_node(index)
    node.lying = node.lied = True


def unlie(world: "World", index: int) -> None:
    world.own_node(index).lying = False


def stall(world: "World") -> None:
    _spend(world, "stall")
    world.own_storage().stalled = True


def unstall(world: "World") -> None:
    world.own_storage().stalled = False


DO: dict[str, Callable[..., None]] = {
    "freeze": freeze,
    "thaw": thaw,
    "cut": cut,
    "uncut": uncut,
    "storage_cut": storage_cut,
    "storage_uncut": storage_uncut,
    "crash": crash,
    "boot": boot,
    "agent": agent,
    "restart": restart,
    "lie": lie,
    "unlie": unlie,
    "stall": stall,
    "unstall": unstall,
}
