"""Hashes, jitter and weighted draws, all in integers: the same bits on every machine and in every process."""

from functools import lru_cache
from hashlib import blake2b

_MASK = (1 << 64) - 1
_TABLE_BITS = 11
_SHIFT = 32 - _TABLE_BITS
_LOG_BITS = 32
_ONE = 1 << _LOG_BITS


@lru_cache(maxsize=1 << 17)
def digest(key: str) -> int:
    """Return 64 well mixed bits of ``key`` (blake2b, cached: ids are hashed once per process)."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


def jitter(key: str, limit: int) -> int:
    """Return a number in ``[0, limit)`` that only depends on ``key``; 0 where ``limit`` is not positive."""
    return digest(key) % limit if limit > 0 else 0


def mix(left: int, right: int) -> int:
    """Return 64 bits that depend on every bit of two 64-bit digests; not symmetric. About 0.4 us.

    Source: the finaliser of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    """
    z = (left ^ (right * 0x9E3779B97F4A7C15)) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def negative_log2(u: int) -> int:
    """Return -log2((u + 1) / 2^32) in units of 2^-32, for ``u`` in [0, 2^32).

    Integer table of 2,048 steps and linear interpolation: never increasing in ``u``, absolute error < 5e-8.
    """
    x = u + 1
    length = x.bit_length()
    mantissa = x << (33 - length)
    at = (mantissa >> _SHIFT) - (1 << _TABLE_BITS)
    low = _LOG2[at]
    part = ((_LOG2[at + 1] - low) * (mantissa & ((1 << _SHIFT) - 1))) >> _SHIFT
    return ((33 - length) << _LOG_BITS) - low - part


def draw(left: int, right: int) -> int:
    """Return the exponential draw of a pair of digests: -log2(u) from 32 bits, ties broken by 32 more. About 1 us.

    The smallest ``weighted(draw, weight)`` wins with a probability proportional to its weight.
    Source: weighted rendezvous hashing (Schindelhauer, Schomaker 2005); 16 bits of draw are too few for a
    flat choice out of 10,000 (measured: 8 % of the services share the best draw).
    """
    h = mix(left, right)
    return (negative_log2(h >> 32) << 32) | (h & 0xFFFFFFFF)


def weighted(drawn: int, weight: int) -> int:
    """Return the cost of a draw at a weight in [1, 2^32]; strictly growing in ``drawn``. The smallest cost wins."""
    return (drawn << 32) // weight


def _log2_fraction(numerator: int) -> int:
    """Return log2(numerator / 2^11) in units of 2^-32 for a numerator in [2^11, 2^12], by repeated squaring."""
    if numerator == 2 << _TABLE_BITS:
        return _ONE
    y = numerator << (62 - _TABLE_BITS)
    bits = 0
    for _ in range(_LOG_BITS):
        y = (y * y) >> 62
        carry = y >> 63
        y >>= carry
        bits = (bits << 1) | carry
    return bits


_LOG2 = tuple(_log2_fraction((1 << _TABLE_BITS) + i) for i in range((1 << _TABLE_BITS) + 1))
