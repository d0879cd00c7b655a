"""The negative logarithm of a 16-bit draw, as a table of 65,536 entries; CRUSH's own, with its roundings."""

import functools
import json
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


@functools.cache
def negative_logs() -> NDArray[np.int64]:
    """Make ``2^48 - crush_ln(u)`` for each 16-bit draw u. int64, shape (65536,), from 0 to 2^48.

    `crush_ln(u)` is ``2^44 * log2(u + 1)`` by two lookup tables and a multiplication. The values are not monotone in
    u: the second table deviates from the logarithm in most of its entries, and all clusters depend on that.

    Source: tables as found in Debian's libceph-common 16.2.15 (`crush_ln.json` holds their provenance).
    """
    tables = json.loads(files("twin.crush").joinpath("crush_ln.json").read_text())
    inverse_and_log = np.array(tables["RH_LH"], np.int64)
    fine = np.array(tables["LL"], np.int64)
    draw = np.arange(1, 0x10001, dtype=np.int64)
    shift = np.maximum(16 - np.floor(np.log2(draw)).astype(np.int64) - 1, 0)
    scaled = draw << shift
    coarse = ((scaled >> 8) << 1) - 256
    product = scaled.astype(np.uint64) * inverse_and_log[coarse].astype(np.uint64)
    rest = (product >> np.uint64(48)).astype(np.int64) & 0xFF
    log = ((15 - shift) << 44) + ((inverse_and_log[coarse + 1] + fine[rest]) >> 4)
    table: NDArray[np.int64] = (1 << 48) - log
    table.setflags(write=False)
    return table


@functools.cache
def ranks() -> tuple[NDArray[np.uint32], int]:
    """Rank the draws from worst to best, for items of equal weight.

    Returns uint32, shape (65536,): the higher, the sooner it wins, equal where the logarithms are equal; and the
    largest weight (16.16) for which dividing by it makes no two different logarithms equal.
    """
    table = negative_logs()
    values, place = np.unique(table, return_inverse=True)
    rank = (len(values) - 1 - place).astype(np.uint32)
    rank.setflags(write=False)
    return rank, int(np.diff(values).min())
