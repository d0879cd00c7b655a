"""The rehearsal of an upgrade: a scenario of this rack as it is now, for the simulated rack to run.

The files are the interface: ``twin run SNAPSHOT/upgrade`` says whether it goes well, and how long it takes.
"""

from collections.abc import Collection

from core.ids import NodeId
from core.records import Lifecycle
from drivers.clock import wall_text
from drivers.config import Config
from drivers.inventory import Machine
from drivers.rack_state import RackState
from drivers.toml_text import toml_text

FOLDER = "upgrade"
SCENARIO, RACK, CATALOG = "scenario.toml", "rehearsed-rack.toml", "rehearsed-catalog.toml"
SETTLE_MS = 60_000
TURN_MS_MAX = 420_000
"""So long a turn may take in the rehearsal before the scenario ends; it usually takes a third of it."""
HEAL_MS = 600_000
CAMPAIGN_NODES = 30
"""A rack of more nodes is rehearsed without an event for each beat."""
_AWAY = (Lifecycle.RETIRED, Lifecycle.DISCOVERED, Lifecycle.QUARANTINED)


def files(config: Config, rack: RackState, parallel: int = 1) -> dict[str, bytes]:
    """The files of the rehearsal by name: the scenario, its rack, its catalog."""
    nodes = taking_part(config, rack)
    return {
        f"{FOLDER}/{SCENARIO}": scenario_text(config, rack, nodes, parallel).encode(),
        f"{FOLDER}/{RACK}": rack_text(nodes, without_vote(rack)).encode(),
        f"{FOLDER}/{CATALOG}": config.tables.catalog.read_bytes(),
    }


def taking_part(config: Config, rack: RackState) -> dict[NodeId, Machine]:
    """The nodes of the rack that are there: without those that were retired, were never in, or were given up."""
    lives = rack.lives
    there = {node for node, life in lives.items() if life.state not in _AWAY}
    found = {node: machine for node, machine in config.machines.items() if node in there}
    return found or dict(config.machines.items())


def without_vote(rack: RackState) -> tuple[NodeId, ...]:
    """The members that run no ZooKeeper server, and cannot."""
    return tuple(node for node, member in rack.members.items() if not member.voter)


def rack_text(nodes: dict[NodeId, Machine], without: Collection[NodeId] = ()) -> str:
    """A rack file with these nodes, each rack with a switch of its own, all of those connected.

    ``without``: nodes that have no vote.
    """
    racks = list(dict.fromkeys(machine.rack for machine in nodes.values()))
    feeds = dict.fromkeys((machine.power_domain, machine.rack) for machine in nodes.values())
    models = {node: _model(machine, node not in without) for node, machine in nodes.items()}
    switches = [f"switch-{rack}" for rack in racks]
    table: dict[str, object] = {
        "name": "rehearsed",
        "template": dict(models.values()),
        "pdu": [{"id": domain, "rack": rack} for domain, rack in _one_rack_each(list(feeds))],
        "switch": [{"id": switch, "uplinks": switches[:at]} for at, switch in enumerate(switches)],
        "node": [
            {
                "id": node,
                "rack": machine.rack,
                "pdu": machine.power_domain,
                "switches": [f"switch-{machine.rack}"],
                "template": models[node][0],
            }
            for node, machine in nodes.items()
        ],
    }
    return f"# The rack as it was at {wall_text()}; one switch a rack is assumed.\n" + toml_text(table)


def _model(machine: Machine, votes: bool) -> tuple[str, dict[str, object]]:
    """A template for machines like this one, and its name."""
    name = f"m{machine.cores}x{machine.memory_gib}w{machine.weight}"
    parts = {"cores": machine.cores, "memory_gib": machine.memory_gib, "weight": machine.weight}
    return (name, dict(parts)) if votes else (f"{name}-without-vote", {**parts, "votes": False})


def _one_rack_each(feeds: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Power domains with the first rack that they feed."""
    first: dict[str, str] = {}
    for domain, rack in feeds:
        first.setdefault(domain, rack)
    return list(first.items())


def scenario_text(config: Config, rack: RackState, nodes: dict[NodeId, Machine], parallel: int) -> str:
    """The scenario: the rack settles, the operator begins the upgrade, all nodes that run an image get the new one."""
    members = rack.members
    by_hand = [node for node in nodes if node in members and not members[node].image]
    if len(by_hand) == len(nodes):
        by_hand = []  # nobody runs an image yet: what it would be like if all did
    faults: list[dict[str, object]] = [{"kind": "upgrade_begins", "at_ms": SETTLE_MS, "parallel": parallel}]
    if by_hand:
        faults.insert(0, {"kind": "installed_by_hand", "at_ms": 0, "target": ",".join(by_hand)})
    table: dict[str, object] = {
        "seed": 1,
        "rack": RACK,
        "catalog": CATALOG,
        "duration_ms": SETTLE_MS + TURN_MS_MAX * max(1, len(nodes) - len(by_hand)),
        "heal_ms": HEAL_MS,
        "settle_ms": 0,
        "fidelity": "campaign" if len(nodes) > CAMPAIGN_NODES else "protocol",
        "timing": dict(config.tables.timing),
        "fault": faults,
        "expect": {"verdict": "pass", "sometimes": ["upgrade_done"], "never": ["upgrade_halted"]},
    }
    why = "# Why: the rehearsal of an upgrade of this rack: what it takes, and whether it goes well.\n"
    return why + toml_text(table)
