"""What `twin scale` takes for given, each figure with where it came from: `twin/scaling/figures.toml`."""

from functools import lru_cache
from importlib.resources import files

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure with its unit, what it is, and its source."""

    value: float
    unit: str
    what: str
    source: str


@lru_cache(maxsize=1)
def figures() -> dict[str, Figure]:
    """Read the figures."""
    text = files("twin.scaling").joinpath("figures.toml").read_text(encoding="utf-8")
    return msgspec.toml.decode(text, type=dict[str, Figure])


def figure(name: str) -> float:
    """Look one figure up. Raises: KeyError for an unknown one, which is our bug."""
    return figures()[name].value
