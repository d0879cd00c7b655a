"""The simulated rack the core runs in: a discrete-event world, its faults, its checkers and its reports."""
