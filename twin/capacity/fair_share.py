"""Max-min fair shares: nobody gets more by taking from somebody who has less."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NEAR = 1e-9


def fair_rates(caps: Floats, limits: Floats, jobs: Ints, resources: Ints, loads: Floats) -> Floats:
    """Share resources among jobs by progressive filling; hand back one rate for each job.

    ``caps``: float64, shape (n,), the most each job can use; ``limits``: float64, shape (m,). Job ``jobs[i]`` takes
    ``loads[i]`` of resource ``resources[i]`` for each unit of its rate. All rates rise together; a job stops at its cap
    or when a resource it needs is used up. At most n + m rounds.

    Source: Bertsekas and Gallager, Data Networks (2nd ed., 1992), section 6.5.2.
    """
    rates, left = np.zeros(len(caps)), limits.astype(np.float64).copy()
    open_jobs = caps > 0
    for _ in range(len(caps) + len(limits)):
        if not open_jobs.any():
            break
        weights = np.bincount(resources, weights=loads * open_jobs[jobs], minlength=len(limits))
        used = weights > 0
        step = float(np.min(caps[open_jobs] - rates[open_jobs]))
        if used.any():
            step = min(step, float(np.min(left[used] / weights[used])))
        step = max(step, 0.0)
        rates[open_jobs] += step
        left -= step * weights
        full = used & (left <= NEAR * limits)
        stuck = np.zeros(len(caps), np.bool_)
        stuck[jobs[full[resources]]] = True
        open_jobs &= ~stuck & (rates < caps * (1 - NEAR))
    return rates
