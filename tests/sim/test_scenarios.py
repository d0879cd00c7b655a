"""Every scenario gives the verdict it expects, with every checker content and the rack converged."""

import pytest

from tests.sim.running import NAMES, run


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in NAMES])
def test_the_scenario_ends_as_it_expects(name: str) -> None:
    code, outcome = run(name)
    broken = [check for check in outcome["checks"] if not check["ok"]]
    missed = [wish for wish in outcome["expectations"] if not wish["ok"]]
    story = {"broken": broken, "missed": missed, "pending": outcome["pending"], "crash": outcome["crash"]}
    assert outcome["verdict"] == outcome["expected"], story
    assert code == 0
    assert outcome["checks"], "no checker looked at it"


def test_the_main_scenario_moves_the_database_once_and_proves_the_power_fence() -> None:
    _, outcome = run("lose-the-holder")
    moves = [move for move in outcome["failovers"] if move["service"] == "mariadb"]
    assert len(moves) == 1
    (move,) = moves
    assert move["from"] != move["to"]
    assert move["total_ms"] == move["detect_ms"] + move["fence_ms"] + move["start_ms"]
    assert 0 < outcome["unavailable_ms"]["mariadb"] < 10_000


@pytest.mark.parametrize("seed", range(1, 9))
def test_the_main_scenario_is_safe_under_other_seeds(seed: int) -> None:
    _, outcome = run("lose-the-holder", "--seed", str(seed))
    assert outcome["seed"] == seed
    assert outcome["verdict"] == "pass", (outcome["pending"], [check for check in outcome["checks"] if not check["ok"]])
