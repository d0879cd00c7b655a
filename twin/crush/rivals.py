"""One item against the winners of many draws: what a straw2 bucket would choose if that item changed or came."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.crush.compiled import Prefer, is_warm, kernel, logs
from twin.crush.hashing import WORDS, hash3, hash3_into

_BLOCK = 1 << 14
"""Draws that are compared together in NumPy: so many stay in a core's cache."""


@dataclass(frozen=True, kw_only=True)
class Winners:
    """Draws from one bucket, and who won them. All of shape (draws,) but ``xs``.

    ``xs``: uint32, the inputs; ``inputs``: int32, each draw's input; ``rs``: uint32; ``drawn``: uint16, what the winner
    drew; ``winner``: uint16, its place. By place: ``weights`` float64 and ``places`` int64, what each winner weighs now
    and where it is now; infinite and -1 for one that is not to be compared.
    """

    xs: NDArray[np.uint32]
    inputs: NDArray[np.int32]
    rs: NDArray[np.uint32]
    drawn: NDArray[np.uint16]
    winner: NDArray[np.uint16]
    weights: NDArray[np.float64]
    places: NDArray[np.int64]

    def some(self, at: NDArray[np.int64], weights: NDArray[np.float64], places: NDArray[np.int64]) -> "Winners":
        """Return some of the draws, with other weights and places."""
        return Winners(
            xs=self.xs,
            inputs=self.inputs[at],
            rs=self.rs[at],
            drawn=self.drawn[at],
            winner=self.winner[at],
            weights=weights,
            places=places,
        )


def beats(winners: Winners, item: int, weight: int, place: int, prefer: Prefer = "auto") -> NDArray[np.bool_]:
    """Say where an item of a weight (16.16), at a place, beats the winner: by a lower quotient, or a tie by its place.

    Returns bool, shape (draws,).
    """
    won = np.zeros(len(winners.inputs), np.bool_)
    one, table = winners, logs()
    if prefer == "numba" or (prefer == "auto" and is_warm()):
        rival = np.array([item & 0xFFFFFFFF, weight, place], np.int64)
        kernel().beats(one.xs, one.inputs, one.rs, one.drawn, one.winner, one.weights, one.places, table, rival, won)
        return won
    for start in range(0, len(won), _BLOCK):
        part = slice(start, start + _BLOCK)
        near, hashes = _near(one, part, item, weight)
        drawn, winner = one.drawn[part][near], one.winner[part][near]
        with np.errstate(divide="ignore"):
            score = np.floor(table[hashes] / float(weight))
            mark = np.floor(table[drawn] / one.weights[winner])
        won[part][near] = (score < mark) | ((score == mark) & (place < one.places[winner]))
    return won


def _near(winners: Winners, part: slice, item: int, weight: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Say which draws the rival wins, or might, with what it drew there: in single precision, without a division."""
    xs = winners.xs.take(winners.inputs[part])
    rival = np.array([[item & 0xFFFFFFFF]], np.uint32)
    hashes = hash3_into(_space()[:, :, : len(xs)], xs, rival, winners.rs[part])[0]
    hashes &= np.uint32(0xFFFF)
    with np.errstate(divide="ignore"):
        inverse = (1 / winners.weights).astype(np.float32)
        own = np.float32(np.divide(1.0, weight))
    scores = _single_logs().take(hashes)
    scores *= own
    bounds = _single_logs().take(winners.drawn[part])
    bounds *= inverse[0] if (inverse == inverse[0]).all() else inverse.take(winners.winner[part])
    bounds *= np.float32(1 + 1e-6)  # three roundings of 6e-8
    bounds += np.float32(1)  # quotients are whole: what is less than one apart may be a tie
    near = np.flatnonzero(scores <= bounds)
    return near, hashes[near]


@functools.cache
def _single_logs() -> NDArray[np.float32]:
    return logs().astype(np.float32)


@functools.cache
def _space() -> NDArray[np.uint32]:
    return np.empty((WORDS, 1, _BLOCK), np.uint32)


def hash_draws(
    xs: NDArray[np.uint32], items: NDArray[np.uint32], rs: NDArray[np.uint32], prefer: Prefer = "auto"
) -> NDArray[np.uint16]:
    """Draw for one item each: 16 bits of the hash of an input, an item and an r. All arrays of shape (draws,)."""
    drawn = np.empty(len(xs), np.uint16)
    if prefer == "numba" or (prefer == "auto" and is_warm()):
        kernel().hash_draws(xs, items, rs, drawn)
        return drawn
    for start in range(0, len(xs), _BLOCK):
        part = slice(start, start + _BLOCK)
        drawn[part] = hash3(xs[part], items[part], rs[part]) & np.uint32(0xFFFF)
    return drawn
