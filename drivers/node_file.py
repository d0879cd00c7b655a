"""``node.toml``: the one place that writes it, for the nodes of ``rack init`` and for those that join."""

from collections.abc import Mapping
from pathlib import Path

from drivers.inventory import Machine
from drivers.toml_text import toml_text

NODE_FILE = "node.toml"
METRICS_PORT = 9464
HEAD = "# What the supervisor of this node starts from; every key is explained in docs/drivers/rack.md.\n"


def node_text(machine: Machine, state_dir: Path, run_dir: Path, more: Mapping[str, object]) -> bytes:
    """Write the node file of a machine; what it names lies beside it under the usual names.

    ``more``: further settings. ``{node}`` and ``{address}`` stand for the machine's own in every text of them.
    """
    address = machine.address
    tables: dict[str, object] = {
        "node": machine.id,
        "inventory": "inventory.toml",
        "catalog": "catalog.toml",
        "state_dir": state_dir,
        "run_dir": run_dir,
        "heartbeat_key": "heartbeat.key",
        "metrics": f"[{address}]:{METRICS_PORT}" if ":" in address else f"{address}:{METRICS_PORT}",
        "tls": {"ca": "tls/ca.pem", "cert": "tls/node.pem", "key": "tls/node.key"},
        **more,
    }
    marks = {"{node}": machine.id, "{address}": address}
    return (HEAD + toml_text({name: _filled(value, marks) for name, value in tables.items()})).encode()


def _filled(value: object, marks: Mapping[str, str]) -> object:
    """A value with the marks filled in everywhere."""
    match value:
        case str() | Path():
            text = str(value)
            for mark, meaning in marks.items():
                text = text.replace(mark, meaning)
            return text
        case dict():
            return {name: _filled(inner, marks) for name, inner in value.items()}
        case list() | tuple():
            return [_filled(inner, marks) for inner in value]
        case _:
            return value
