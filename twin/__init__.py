"""The simulated rack the core runs in: a discrete-event world, its faults, its checkers and its reports.

For notebooks and scripts, ``import twin`` is enough: each name below is loaded when it is first used. Results come as
tables (`twin.table.Table`), which pandas and polars take as they are, and as pictures that a notebook shows.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twin.notebook import failover_times as failover_times
    from twin.notebook import simulate as simulate
    from twin.notebook import timers as timers
    from twin.table import Table as Table

_HOMES = {
    "Table": "twin.table",
    "failover_times": "twin.notebook",
    "simulate": "twin.notebook",
    "timers": "twin.notebook",
}

__all__ = ["Table", "failover_times", "simulate", "timers"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'twin' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
