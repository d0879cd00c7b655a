"""Advice for one rack: its jitter from journals of its agents or of a calm simulated rack, and a sweep of settings."""

from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import InputError
from core.journal import Line, read_lines
from formats.catalog import load_catalog
from formats.rack import load_rack
from twin.advise.advice import Advice, Sweep
from twin.advise.jitter import Jitter, jitter_of
from twin.advise.sweep import Setting, Times, measure
from twin.calibration import load
from twin.journals import read_journal
from twin.run import Options, run
from twin.scenario import scenario_of

CALM_MS = 1_800_000
"""Without journals, the lateness is that of a calm simulated rack of this long, with the twin's calibration."""


def advise(
    rack: str | Path,
    catalog: str | Path = "catalog/minimal.toml",
    journals: Sequence[Path] = (),
    seeds: int = 20,
    yearly: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Advice:
    """Say which timers a rack should have: ``seeds`` failovers a setting, at most ``yearly`` false alarms a year.

    Raises: InputError if the rack, the catalog or a journal is not right, or no singleton has a volume.
    """
    rack_path, catalog_path = Path(rack), Path(catalog)
    hardware, wanted = load_rack(rack_path), load_catalog(catalog_path)
    services = [service.spec for service in wanted.services if service.spec.run == "singleton"]
    volumes = [str(spec.name) for spec in services if spec.volume]
    if not volumes:
        raise InputError([f"{catalog}: has no singleton with a volume; needed: one, whose failovers are timed"])

    def timed(setting: Setting) -> Times:
        return measure(rack_path, catalog_path, volumes[0], setting, seeds)

    sweep = Sweep(
        _jitter(rack_path, catalog_path, journals),
        timed,
        nodes=len(hardware.nodes),
        holders=len(services),
        yearly_max=yearly,
        tick_ms=load()["zookeeper.tick_ms"].ms,
        guessed=not journals,
        progress=progress or (lambda _done, _of: None),
    )
    return sweep.advise(hardware.name, volumes[0])


def _jitter(rack: Path, catalog: Path, journals: Sequence[Path]) -> Jitter:
    if journals:
        return jitter_of(line for path in journals for line in read_journal(path))
    return jitter_of(_calm_lines(rack, catalog))


def _calm_lines(rack: Path, catalog: Path) -> list[Line]:
    tables: dict[str, object] = {"rack": str(rack), "catalog": str(catalog), "duration_ms": CALM_MS, "settle_ms": 0}
    chunks: list[bytes] = []
    run(scenario_of(tables, Path("calm.toml"), "a calm rack"), Options(), chunks.append)
    return list(read_lines(b"".join(chunks).splitlines(keepends=True)))
