"""The colours of the report, one place: conditions of nodes, services, phases of a failover."""

from twin.story import BandKind

POWER: dict[str, str] = {"off": "#d5d9e0", "booting": "#dbe8fb", "up": "#f6f8fb", "frozen": "#e2d6f5"}
MEMBERSHIP: dict[str, str] = {
    "joined": "#7cc9a0",
    "suspect": "#f2c14e",
    "lost": "#e58a86",
    "quarantined": "#5b6472",
    "maintenance": "#79b8c9",
}
SERVICES = ("#2f6fb7", "#c8752a", "#7b5ab6", "#2a8f8a", "#b8477c", "#6b7a1f")
"""In order of the services; they start anew after the last."""

FAULT = "#c62f3b"
HEAL = "#2b8a5a"
INK = "#26303d"
FAINT = "#7a8594"
LINE = "#e3e7ed"

PHASES = {"detect": "#e3a6a2", "fence": "#8fb8e8", "start": "#8fd0ac"}


def band(kind: BandKind) -> str:
    """The colour of a node's condition."""
    return POWER.get(kind) or MEMBERSHIP[kind]


def service(index: int) -> str:
    """The colour of the service at ``index`` in the report's order."""
    return SERVICES[index % len(SERVICES)]
