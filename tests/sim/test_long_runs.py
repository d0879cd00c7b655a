"""What a run remembers grows with what happens in it, not with how long it lasts."""

from pathlib import Path

from trial.register import WINDOW_MS
from twin.scenario import scenario_of
from twin.world.clients import ClientLoad
from twin.world.world import World

ROOT = Path(__file__).resolve().parents[2]
HOUR_MS = 3_600_000
TABLES = {
    "seed": 11,
    "rack": "racks/five.toml",
    "catalog": "catalog/minimal.toml",
    "nodes": ["n1", "n2", "n3"],
    "services": ["mariadb"],
    "duration_ms": 2 * HOUR_MS,
    "fidelity": "protocol",
}


def test_two_hours_of_every_message_keep_no_more_records_than_two_windows() -> None:
    scenario = scenario_of(TABLES, ROOT / "long.toml", "")
    load = ClientLoad(every_ms=scenario.clients.every_ms)
    world = World(scenario.rack, scenario.catalog, seed=11, fidelity="protocol", clients=load)
    world.start()
    kept = []
    for at_ms in range(WINDOW_MS // 2, scenario.duration_ms + 1, WINDOW_MS // 2):
        world.run_until(at_ms)
        kept.append(world.truth.kept())
    asked, wrote = world.truth.clients.asked, world.truth.volumes.writes
    assert asked > 25_000
    assert wrote > 40_000
    in_two_windows = 2 * WINDOW_MS // load.every_ms
    assert max(kept) < 2 * in_two_windows + 200  # each write in its register, and in what is known of its volume
    assert max(kept[len(kept) // 2 :]) <= max(kept[: len(kept) // 2]) + 10
    assert world.truth.clients.linearizable() == ""
    assert [one.problem() for one in world.truth.survival.values()] == [""]
