"""Rare but legal behaviours that wait for their moment: the next so many commits, fences or power orders of one part.

A component keeps one ``Quirks`` and asks it at the one place where a behaviour can occur; ``armed`` is False while
there is none, and is all that a run without them pays for.
"""

from collections.abc import Callable
from typing import Literal, get_args

QuirkName = Literal[
    "answer_late",
    "bmc_answer_lost",
    "bmc_cycle_refused",
    "bmc_hangs_after",
    "bmc_order_late",
    "bmc_order_repeated",
    "bmc_report_late",
    "bmc_session_refused",
    "boot_slow",
    "boot_twice",
    "close_hangs",
    "commit_answer_lost",
    "commit_lost",
    "commit_pause",
    "dhcp_offer_lost",
    "ephemeral_late",
    "exit_after_healthy",
    "exit_told_late",
    "fence_answer_lost",
    "fence_late",
    "follower_lag",
    "image_swapped",
    "lift_answer_lost",
    "map_late",
    "mount_replay_long",
    "open_answer_lost",
    "power_on_ignored",
    "session_refused",
    "start_slow",
    "stop_hangs",
    "unmount_fails",
    "watch_late",
    "watch_repeated",
    "window_expired",
]
"""One for each kind of fault that waits for its moment, of the same name."""
QUIRKS: tuple[str, ...] = get_args(QuirkName)
Says = Literal["failed", "unanswered"]

ALWAYS = 1 << 30
"""A count for behaviours that last until they are healed."""


class Quirk:
    """One behaviour that is armed: for the next ``left`` occurrences, ``ms`` late or long where that applies."""

    __slots__ = ("act", "left", "ms", "name", "says")

    def __init__(self, name: QuirkName, count: int, ms: int, says: Says, act: Callable[[], None] | None) -> None:
        self.name = name
        self.left = count
        self.ms = ms
        self.says = says
        self.act = act


class Quirks:
    """What is armed at one component, oldest first."""

    __slots__ = ("_armed", "armed")

    def __init__(self) -> None:
        self.armed = False
        self._armed: list[Quirk] = []

    def arm(
        self,
        name: QuirkName,
        count: int = 1,
        ms: int = 0,
        says: Says = "unanswered",
        act: Callable[[], None] | None = None,
    ) -> Quirk:
        """Let the next ``count`` occurrences be strange; ``disarm`` takes what it returns."""
        quirk = Quirk(name, count, ms, says, act)
        self._armed.append(quirk)
        self.armed = True
        return quirk

    def disarm(self, quirk: Quirk) -> None:
        """Forget a behaviour; one that is used up already is gone."""
        self._armed = [other for other in self._armed if other is not quirk]
        self.armed = bool(self._armed)

    def look(self, name: QuirkName) -> Quirk | None:
        """Return the oldest armed behaviour of a name, and leave it armed."""
        return next((quirk for quirk in self._armed if quirk.name == name), None)

    def take(self, name: QuirkName) -> Quirk | None:
        """Return the oldest armed behaviour of a name, counted down, or None."""
        quirk = self.look(name)
        if quirk is not None:
            quirk.left -= 1
            if quirk.left <= 0:
                self.disarm(quirk)
        return quirk
