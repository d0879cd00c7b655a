"""Max-min fair shares: nobody gets more by taking from somebody who has less."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NEAR = 1 + 1e-9


def fair_rates(caps: Floats, limits: Floats, jobs: Ints, resources: Ints, loads: Floats) -> Floats:
    """Share resources among jobs, max-min fairly; hand back one rate for each job.

    ``caps``: float64, shape (n,), the most each job can use; ``limits``: float64, shape (m,). Job ``jobs[i]`` takes
    ``loads[i]`` of resource ``resources[i]`` for each unit of its rate.

    Progressive filling, with all bottlenecks of a round at once: the level of a resource is what each of its open jobs
    would get; levels only rise as others are settled, so a job is settled at its cap if that is below all its levels,
    and all jobs of a resource at its level if it is the lowest for each of them. At most n + m rounds, mostly few.

    Source: Bertsekas and Gallager, Data Networks (2nd ed., 1992), section 6.5.2.
    """
    rates = np.zeros(len(caps))
    settled = caps <= 0
    for _ in range(len(caps) + len(limits)):
        if settled.all():
            break
        used = np.bincount(resources, weights=loads * (rates * settled)[jobs], minlength=len(limits))
        wanted = np.bincount(resources, weights=loads * ~settled[jobs], minlength=len(limits))
        level = np.full(len(limits), np.inf)
        np.divide(np.maximum(limits - used, 0.0), wanted, out=level, where=wanted > 0)
        lowest = caps.copy()
        np.minimum.at(lowest, jobs, level[resources])
        tightest = np.full(len(limits), np.inf)
        still = ~settled[jobs]
        np.minimum.at(tightest, resources[still], lowest[jobs[still]])
        bottleneck = level <= tightest * NEAR
        done = ~settled & (lowest >= caps)
        done[jobs[still & bottleneck[resources]]] = True
        rates[done] = lowest[done]
        settled |= done
    return rates
