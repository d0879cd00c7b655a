"""Scenario files as the twin reads them: their faults are those of ``twin.faults``."""

from pathlib import Path
from typing import TypeAlias

import trial.scenario
from twin.faults import FAULTS, Fault

Scenario: TypeAlias = trial.scenario.Scenario[Fault]


def load_scenario(path: Path) -> Scenario:
    """Read a scenario with its rack and catalog. Raises: InputError with every problem of all three files."""
    return trial.scenario.load_scenario(path, FAULTS)
