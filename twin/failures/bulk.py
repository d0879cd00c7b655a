"""Uniform numbers for many components at once: each component has its own, however many others there are.

Draw ``n`` of component ``i`` is word ``i`` of the Philox stream that is keyed by the seed, the name of what is drawn,
and ``n``. So a component more is a word more at the end of each stream, and changes nothing for the others.
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from twin.failures.distributions import Floats

_TO_UNIT = 2.0**-53
_HALF = 2.0**-54
"""Uniform numbers lie in the middle of their steps, so that neither 0 nor 1 is ever among them."""


def uniforms(seed: int, name: str, draw: int, components: int) -> Floats:
    """Draw number ``draw`` of each component: float64 array, shape (components,), in (0, 1). O(components)."""
    return np.asarray((words(seed, name, draw, components) >> np.uint64(11)) * _TO_UNIT + _HALF, dtype=np.float64)


def words(seed: int, name: str, draw: int, components: int) -> npt.NDArray[np.uint64]:
    """64 uniform bits for each component: uint64 array, shape (components,)."""
    key = np.frombuffer(blake2b(f"{seed}/{name}/{draw}".encode(), digest_size=16).digest(), dtype="<u8")
    return np.atleast_1d(np.random.Philox(key=key.astype(np.uint64)).random_raw(components))
