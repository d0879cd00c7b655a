"""Scenario files as the twin reads them: their faults are those of ``twin.faults``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import trial.scenario
from twin.faults import FAULTS, Fault

Scenario: TypeAlias = trial.scenario.Scenario[Fault]


def load_scenario(path: Path) -> Scenario:
    """Read a scenario with its rack and catalog. Raises: InputError with every problem of all three files."""
    return trial.scenario.load_scenario(path, FAULTS)


def scenario_of(raw: Mapping[str, object], file: Path, reason: str) -> Scenario:
    """Make a scenario of tables that need not be in any file. Raises: InputError with every problem."""
    return trial.scenario.scenario_of(raw, file, FAULTS, reason)
