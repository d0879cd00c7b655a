"""A trial: what a scenario is and how its outcome is judged, the same in the simulated rack and in a real one."""
