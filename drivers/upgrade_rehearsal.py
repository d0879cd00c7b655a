"""The rehearsal of an upgrade: a scenario of this rack as it is now, for the simulated rack to run.

The files are the interface: ``twin run SNAPSHOT/upgrade`` says whether it goes well, and how long it takes.
"""

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
        f"{FOLDER}/{RACK}": rack_text(nodes).encode(),
        f"{FOLDER}/{CATALOG}": config.tables.catalog.read_bytes(),
    }


def taking_part(config: Config, rack: RackState) -> dict[NodeId, Machine]:
    """The nodes of the rack that are there: without those that were retired, were never in, or were given up."""
    lives = rack.lives
    there = {node for node, life in lives.items() if life.state not in _AWAY}
    found = {node: machine for node, machine in config.machines.items() if node in there}
    return found or dict(config.machines.items())


def rack_text(nodes: dict[NodeId, Machine]) -> str:
    """A rack file with these nodes, each rack with a switch of its own, all of those connected."""
    racks = list(dict.fromkeys(machine.rack for machine in nodes.values()))
    feeds = dict.fromkeys((machine.power_domain, machine.rack) for machine in nodes.values())
    models = {(m.cores, m.memory_gib, m.weight): f"m{m.cores}x{m.memory_gib}w{m.weight}" for m in nodes.values()}
    switches = [f"switch-{rack}" for rack in racks]
    table: dict[str, object] = {
        "name": "rehearsed",
        "template": {
            name: {"cores": cores, "memory_gib": memory, "weight": weight}
            for (cores, memory, weight), name in models.items()
        },
        "pdu": [{"id": domain, "rack": rack} for domain, rack in _one_rack_each(list(feeds))],
        "switch": [{"id": switch, "uplinks": switches[:at]} for at, switch in enumerate(switches)],
        "node": [
            {
                "id": node,
                "rack": machine.rack,
                "pdu": machine.power_domain,
                "switches": [f"switch-{machine.rack}"],
                "template": models[machine.cores, machine.memory_gib, machine.weight],
            }
            for node, machine in nodes.items()
        ],
    }
    return f"# The rack as it was at {wall_text()}; one switch a rack is assumed.\n" + toml_text(table)


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
