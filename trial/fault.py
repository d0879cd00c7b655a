"""What every fault is in a scenario file: its keys, what it strikes, and when. Each world does the harm itself."""

from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec

from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.load import Ms, PositiveMs
from formats.problems import Problems
from trial.targets import Target, TargetKind


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One ``[[fault]]`` of a scenario.

    It strikes at ``at_ms`` and is healed ``for_ms`` later (0: when the heal phase begins). With ``times`` it strikes
    again every ``every_ms``; symbolic targets are resolved anew each time. A world has a subclass for each kind, with
    the keys of that kind.
    """

    STRIKES: ClassVar[TargetKind] = "nodes"
    TARGET_NEEDED: ClassVar[bool] = True

    at_ms: Ms
    for_ms: Ms = 0
    every_ms: PositiveMs = 60_000
    times: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1
    target: str = ""

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        """Note what is wrong with the keys of this kind of fault; ``key`` is the fault's path in its file."""


F = TypeVar("F", bound=Fault)


class Planned(msgspec.Struct, Generic[F], frozen=True, kw_only=True):
    """One ``[[fault]]`` of a scenario with its kind and its target as it was read."""

    kind: str
    fault: F
    terms: tuple[Target, ...] = ()
