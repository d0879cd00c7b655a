"""The hash of CRUSH, rjenkins1, over NumPy arrays: Robert Jenkins' 32-bit mix, in wrapping uint32 arithmetic."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint32]
SEED: Final = np.uint32(1315423911)
X: Final = np.uint32(231232)
Y: Final = np.uint32(1232)
S3, S5, S8, S10, S12, S13, S15, S16 = (np.uint32(n) for n in (3, 5, 8, 10, 12, 13, 15, 16))
WORDS: Final = 9
"""How many arrays `hash3_into` works in."""


def hash1(a: ArrayLike) -> Words:
    """Hash one value for each element. Arguments wrap to uint32 (-1 is 0xffffffff), as for `hash2` to `hash5`."""
    (a,) = _words(a)
    h, b = SEED ^ a, a.copy()
    x, y = _constants(h)
    spare = np.empty_like(h)
    for one, two in ((b, x), (y, a)):
        mix(one, two, h, spare)
    return h


def hash2(a: ArrayLike, b: ArrayLike) -> Words:
    """Hash two values for each element. Source: Ceph's `crush_hash32_rjenkins1_2`."""
    a, b = _words(a, b)
    h = SEED ^ a ^ b
    x, y = _constants(h)
    spare = np.empty_like(h)
    for one, two in ((a, b), (x, a), (b, y)):
        mix(one, two, h, spare)
    return h


def hash3(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Words:
    """Hash three values for each element."""
    a, b, c = _words(a, b, c)
    h = SEED ^ a ^ b ^ c
    x, y = _constants(h)
    spare = np.empty_like(h)
    for one, two in ((a, b), (c, x), (y, a), (b, x), (y, c)):
        mix(one, two, h, spare)
    return h


def hash4(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike) -> Words:
    """Hash four values for each element."""
    a, b, c, d = _words(a, b, c, d)
    h = SEED ^ a ^ b ^ c ^ d
    x, y = _constants(h)
    spare = np.empty_like(h)
    for one, two in ((a, b), (c, d), (a, x), (y, b), (c, x), (y, d)):
        mix(one, two, h, spare)
    return h


def hash5(a: ArrayLike, b: ArrayLike, c: ArrayLike, d: ArrayLike, e: ArrayLike) -> Words:
    """Hash five values for each element."""
    a, b, c, d, e = _words(a, b, c, d, e)
    h = SEED ^ a ^ b ^ c ^ d ^ e
    x, y = _constants(h)
    spare = np.empty_like(h)
    for one, two in ((a, b), (c, d), (e, x), (y, a), (b, x), (y, c), (d, x), (y, e)):
        mix(one, two, h, spare)
    return h


def hash3_into(space: Words, x: Words, items: Words, r: Words) -> Words:
    """Hash (x, item, r) without allocating.

    ``space``: uint32, shape (at least `WORDS`, size, n). ``x`` and ``r``: shape (n,). ``items``: shape (size, n) or
    (size, 1). Returns the hashes, shape (size, n): one of the arrays of the space, good until its next use.
    """
    h: Words = space[3]
    a, b, c, one, two, spare = (space[place] for place in (0, 1, 2, 4, 5, 6))
    np.bitwise_xor((SEED ^ x) ^ r, items, out=h)
    _start(a, x, b, items, h, spare)
    _start(c, r, one, X, h, spare)
    _start(two, Y, a, a, h, spare)
    mix(b, one, h, spare)
    mix(two, c, h, spare)
    return h


def mix(a: Words, b: Words, c: Words, spare: Words) -> None:
    """Mix three arrays in place. Source: R. Jenkins, "Hash functions", Dr. Dobb's Journal, September 1997."""
    _start(a, a, b, b, c, spare)


def _start(a: Words, a0: ArrayLike, b: Words, b0: ArrayLike, c: Words, t: Words) -> None:
    """Mix ``a0``, ``b0`` and c into a, b and c: the values before may be of a smaller shape."""
    sub, xor, up, down = np.subtract, np.bitwise_xor, np.left_shift, np.right_shift
    sub(a0, b0, out=a), sub(a, c, out=a), down(c, S13, out=t), xor(a, t, out=a)
    sub(b0, c, out=b), sub(b, a, out=b), up(a, S8, out=t), xor(b, t, out=b)
    sub(c, a, out=c), sub(c, b, out=c), down(b, S13, out=t), xor(c, t, out=c)
    sub(a, b, out=a), sub(a, c, out=a), down(c, S12, out=t), xor(a, t, out=a)
    sub(b, c, out=b), sub(b, a, out=b), up(a, S16, out=t), xor(b, t, out=b)
    sub(c, a, out=c), sub(c, b, out=c), down(b, S5, out=t), xor(c, t, out=c)
    sub(a, b, out=a), sub(a, c, out=a), down(c, S3, out=t), xor(a, t, out=a)
    sub(b, c, out=b), sub(b, a, out=b), up(a, S10, out=t), xor(b, t, out=b)
    sub(c, a, out=c), sub(c, b, out=c), down(b, S15, out=t), xor(c, t, out=c)


def _words(*values: ArrayLike) -> tuple[Words, ...]:
    """Wrap to uint32 and copy to one common shape (at least one dimension), so that each can be mixed in place."""
    arrays = [np.atleast_1d(np.asarray(value)) for value in values]
    wrapped = [array if array.dtype == np.uint32 else (array.astype(np.int64)).astype(np.uint32) for array in arrays]
    return tuple(np.array(array, copy=True) for array in np.broadcast_arrays(*wrapped))


def _constants(like: Words) -> tuple[Words, Words]:
    return np.full_like(like, X), np.full_like(like, Y)
