"""What is lost at a moment of a simulated year, and what a strike adds to it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twin.durability.durations import Hours, draw
from twin.durability.site import Index, Site

NEVER = np.inf
_FINE = np.iinfo(np.int64).max


@dataclass(eq=False, slots=True)
class State:
    """Clocks and lost disks.

    ``births``, ``dues``: float64 hours, shape (clocks,): when each clock's present life began, when it strikes next.
    ``taken_by``: int64, shape (disks,): number of the strike that took a disk, the largest int64 for one that is fine.
    ``until``: float64 hours, shape (disks,): when a lost disk's copies are all made again.
    """

    births: Hours
    dues: Hours
    taken_by: npt.NDArray[np.int64]
    until: Hours

    def copy(self) -> "State":
        """Return one that can go another way."""
        return State(self.births.copy(), self.dues.copy(), self.taken_by.copy(), self.until.copy())

    @property
    def lost(self) -> Index:
        """The lost disks."""
        return np.flatnonzero(self.taken_by != _FINE)

    def recover(self, now: float) -> None:
        """Note which disks have all their copies again by ``now``."""
        self.taken_by[self.until <= now] = _FINE

    def is_fine(self, disks: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Tell which of the disks are not lost; -1 (no disk) is not fine."""
        return np.asarray((self.taken_by[disks] == _FINE) & (disks >= 0))

    def oldest(self, site: Site, groups: Index) -> npt.NDArray[np.int64]:
        """Return for each group the first strike that one of its lost shards goes back to."""
        shards = site.shards[groups]
        return np.asarray(np.where(shards >= 0, self.taken_by[shards], _FINE).min(axis=1))

    def missing(self, site: Site, groups: Index) -> npt.NDArray[np.int64]:
        """Return how many shards of each group are lost, holes not counted."""
        shards = site.shards[groups]
        return np.asarray(((self.taken_by[shards] != _FINE) & (shards >= 0)).sum(axis=1))

    def take(self, site: Site, disks: Index, strike: int, now: float, rng: np.random.Generator) -> int:
        """Lose disks; replacements begin a new life when their copies are made. Returns whom data loss goes back to.

        That is the oldest strike that a lost group's shards go back to, or 0 if no data is lost.
        """
        if not len(disks):
            return 0
        self.taken_by[disks] = strike
        ends = now + site.recoveries(rng, len(disks))
        self.until[disks] = ends
        self.births[disks] = ends
        self.dues[disks] = ends + draw(site.families[0].life, rng, len(disks))
        groups = site.groups_of(disks)
        dead = groups[self.missing(site, groups) > site.spare[groups]]
        return int(self.oldest(site, dead).min()) if len(dead) else 0

    def restart(self, site: Site, clock: int, now: float, rng: np.random.Generator) -> None:
        """Start a clock anew after its strike and outage (a disk's begins when it is replaced, see `take`)."""
        family = site.family_of(clock)
        away = float(draw(family.down, rng, 1)[0]) if family.burst is None else 0.0
        self.births[clock] = now + away
        self.dues[clock] = self.births[clock] + float(draw(family.life, rng, 1)[0])


def begin(site: Site, rng: np.random.Generator) -> State:
    """Return a site that has run for long, with nothing lost."""
    births, dues = site.begin(rng)
    disks = site.layout.disks
    return State(births, dues, np.full(disks, _FINE, dtype=np.int64), np.full(disks, NEVER))
