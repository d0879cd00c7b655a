"""The simulated rack the core runs in: a discrete-event world, its faults, its checkers and its reports.

For notebooks and scripts, ``import twin`` is enough: each name below is loaded when it is first used. Results come as
tables (`twin.table.Table`), which pandas and polars take as they are, and as pictures that a notebook shows.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twin import pictures as pictures
    from twin.capacity.plan import plan as plan
    from twin.durability.assess import data_loss as data_loss
    from twin.durability.singletons import availability as availability
    from twin.notebook import failover_times as failover_times
    from twin.notebook import simulate as simulate
    from twin.notebook import timers as timers
    from twin.packing.answer import pack as pack
    from twin.scaling.scale import scale as scale
    from twin.table import Table as Table
    from twin.years.site_years import site_years as site_years

_HOMES = {
    "Table": "twin.table",
    "availability": "twin.durability.singletons",
    "data_loss": "twin.durability.assess",
    "failover_times": "twin.notebook",
    "pack": "twin.packing.answer",
    "plan": "twin.capacity.plan",
    "scale": "twin.scaling.scale",
    "simulate": "twin.notebook",
    "site_years": "twin.years.site_years",
    "timers": "twin.notebook",
}

__all__ = [
    "Table",
    "availability",
    "data_loss",
    "failover_times",
    "pack",
    "pictures",
    "plan",
    "scale",
    "simulate",
    "site_years",
    "timers",
]


def __getattr__(name: str) -> object:
    if name == "pictures":
        return import_module("twin.pictures")
    if name not in _HOMES:
        raise AttributeError(f"module 'twin' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
