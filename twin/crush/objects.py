"""From an object's name to its placement group, as every Ceph client computes it."""

from twin.crush.osdmap import Pool

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9
_BLOCK = 12
_SEPARATOR = b"\x1f"
"""Stands between a namespace and a name; a namespace cannot hold it."""


def pg_of(name: str | bytes, pool: Pool, *, namespace: str = "", key: str = "") -> int:
    """Compute the placement group of an object, from 0 to ``pool.pg_num - 1``.

    With a locator ``key`` its hash counts instead of that of the name: objects with one key lie together.

    Source: ``OSDMap::map_to_pg``, ``pg_pool_t::hash_key`` and ``raw_pg_to_pg`` of Ceph 16.2.
    """
    return stable_mod(hash_of(name, namespace=namespace, key=key), pool.pg_num)


def hash_of(name: str | bytes, *, namespace: str = "", key: str = "") -> int:
    """Compute the 32-bit placement seed of an object, before it is folded into the pool's groups."""
    text = key.encode() or (name.encode() if isinstance(name, str) else name)
    return str_hash(namespace.encode() + _SEPARATOR + text if namespace else text)


def stable_mod(seed: int, count: int) -> int:
    """Fold a seed into ``count`` groups, so that a growing count splits groups one by one.

    Source: ``ceph_stable_mod`` of Ceph 16.2.
    """
    mask = (1 << (count - 1).bit_length()) - 1
    return seed & mask if seed & mask < count else seed & (mask >> 1)


def str_hash(text: bytes) -> int:
    """Hash bytes to 32 bits (Robert Jenkins, 1996, public domain; ``ceph_str_hash_rjenkins``)."""
    a = b = _GOLDEN
    c = 0
    whole = len(text) - len(text) % _BLOCK
    for start in range(0, whole, _BLOCK):
        a, b, c = _mix(*(_add(word, text[start + at : start + at + 4]) for word, at in ((a, 0), (b, 4), (c, 8))))
    rest = text[whole:]
    c = _add(c + len(text), b"\0" + rest[8:])  # the lowest byte of the last word is the length's
    return _mix(_add(a, rest[:4]), _add(b, rest[4:8]), c)[2]


def _add(word: int, part: bytes) -> int:
    return (word + int.from_bytes(part, "little")) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for first, second, third in ((13, 8, 13), (12, 16, 5), (3, 10, 15)):
        a = ((a - b - c) & _WORD) ^ (c >> first)
        b = ((b - c - a) ^ (a << second)) & _WORD
        c = ((c - a - b) & _WORD) ^ (b >> third)
    return a, b, c
