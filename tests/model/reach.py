"""What a small world can reach within some ticks, in one order of exploration or another; also a script that says so.

``python -m tests.model.reach VOLUME KIND TICKS ORDER`` prints one JSON object: states, what properties speak of, and
everything that broke.
"""

import sys
from collections import deque

import msgspec

from core.errors import InvariantViolation
from twin.check import enabled
from twin.check.actions import apply
from twin.check.node import Service
from twin.check.options import Order
from twin.check.rules import RuleBroken
from twin.check.shelf import Shelf
from twin.check.small import Root, each_of, root_of
from twin.check.world import World

STATES_MAX = 100_000


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    states: int
    seen: tuple[str, ...]
    broken: tuple[str, ...]


def what_is_judged(world: World) -> str:
    """Everything that a property speaks of: terms, leases, fences, data, and who runs and serves what."""
    storage = world.storage
    kept = ("/moxie/terms/", "/moxie/leases/")
    records = sorted((path, repr(z.data), z.owner) for path, z in world.zk.tree.items() if path.startswith(kept))
    nodes = [(n.power, n.agent, n.frozen, n.cut, sorted(map(_shown, n.services.items()))) for n in world.nodes]
    serving = [world.serves(node, name) for node in world.nodes for name in world.singletons]
    blocked = sorted((repr(instance), state) for instance, state in storage.blocked.items())
    data = (storage.content, sorted(storage.acked), storage.writer)
    return repr((records, blocked, data, nodes, serving, world.faults_left))


def _shown(entry: tuple[str, Service]) -> tuple[str, int, bool, bool, bool]:
    name, service = entry
    return name, service.epoch, service.running, service.suspended, service.announced


def reach(volume: bool, kind: str, ticks: int, order: Order) -> Reached:
    """Explore everything within so many ticks, past what breaks."""
    root = root_of(Root(volume=volume, nodes=2, faults=each_of((kind,)), order=order), payloads=0)
    shelf = Shelf(root)
    begin = shelf.put(root), 0
    known, queue = {begin}, deque([begin])
    seen: dict[str, None] = {}
    broken: dict[str, None] = {}
    while queue:
        state, passed = queue.popleft()
        world = shelf.take(state)
        seen[what_is_judged(world)] = None
        for action in enabled.enabled(world):
            now = passed + (action[0] == "tick")
            if now > ticks:
                continue
            after = world.branch()
            try:
                apply(after, action)
            except (RuleBroken, InvariantViolation) as error:
                broken[str(error)] = None
                continue
            found = shelf.put(after), now
            if found not in known:
                assert len(known) < STATES_MAX, "a smaller world is needed"
                known.add(found)
                queue.append(found)
    return Reached(states=len(known), seen=tuple(sorted(seen)), broken=tuple(sorted(broken)))


if __name__ == "__main__":
    found = reach(sys.argv[1] == "volume", sys.argv[2], int(sys.argv[3]), sys.argv[4])  # type: ignore[arg-type]
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
