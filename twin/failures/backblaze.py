"""Backblaze Drive Stats: the daily tables as published, and summaries of the survival by drive model.

Source: Backblaze Drive Stats (backblaze.com), one table a day, one line a drive that ran on it, ``failure`` 1 on the
drive's last day. Backblaze asks to be named as the source, and not to sell the data.
"""

from datetime import date
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from core.errors import InputError
from twin.failures.distributions import YEAR_H, Floats
from twin.failures.reading import BadCell, Problems, Sheet, columns_of, number, sheet, sheets, whole
from twin.table import Table

_DAILY = ("date", "serial_number", "model", "capacity_bytes", "failure")
_SUMMARY = ("model", "n_unique", "drive_days", "failed", "surv_5yr_lower", "surv_5yr", "surv_5yr_upper")
_DRIVES_MAX = 5_000_000
"""So many drives are followed; Backblaze had about half a million in all of its first ten years. Source: ours."""


class Drive(msgspec.Struct, kw_only=True):
    """One drive as long as it was seen: days are counted from year 1 (``date.toordinal``)."""

    model: str
    first_day: int
    last_day: int
    days: int
    failed: bool


class Drives(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """All drives of the tables by serial number. Memory: a few hundred bytes a drive, whatever the number of days."""

    source: str
    drives: dict[str, Drive]

    def lifetimes_h(self, model: str | None = None) -> tuple[Floats, Floats]:
        """Hours that drives ran until they failed, and those of drives that were last seen running (censored).

        A drive's life is counted from the first day it was seen: earlier days are not in the tables, so for old drives
        these are times in service since then. Pass both arrays to ``likelihood.fit``.
        """
        chosen = [drive for drive in self.drives.values() if model is None or drive.model == model]
        hours = np.asarray([(drive.last_day - drive.first_day + 1) * 24.0 for drive in chosen])
        failed = np.asarray([drive.failed for drive in chosen], dtype=np.bool_)
        return hours[failed], hours[~failed]

    def by_model(self) -> Table:
        """Drives, drive days, failures and annualised failure rate of each model.

        Source of the rate: Backblaze's own definition, failures / (drive days / 365).
        """
        models = sorted({drive.model for drive in self.drives.values()})
        count = {name: [0, 0, 0] for name in models}
        for drive in self.drives.values():
            row = count[drive.model]
            row[0] += 1
            row[1] += drive.days
            row[2] += drive.failed
        return Table(
            {
                "model": models,
                "drives": [count[name][0] for name in models],
                "drive_days": [count[name][1] for name in models],
                "failures": [count[name][2] for name in models],
                "annual_rate": [count[name][2] / (count[name][1] / 365.0) for name in models],
            },
            {"drive_days": "d", "annual_rate": "1/a"},
            "Failures by drive model",
        )


def load(*paths: Path) -> Drives:
    """Read daily tables in the order of their days: ``.csv``, also compressed, quarterly ``.zip``, or a folder of them.

    Only the five first columns are looked at, wherever they are. One day is read at a time.

    Raises: InputError with every malformed line (at most 20 are named), or if a file is another table.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise InputError([f"{', '.join(map(str, paths)) or 'no path'}: no daily table; needed: .csv or .zip files"])
    drives: dict[str, Drive] = {}
    problems = Problems(files[0])
    for file in files:
        for table in sheets(file):
            _read_day(table, drives, problems)
    problems.finish()
    if not drives:
        raise InputError([f"{files[0]}: holds no drive"])
    return Drives(source=str(paths[0]), drives=drives)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    wanted = (".csv", ".zip", ".gz", ".xz")
    return sorted(file for file in path.iterdir() if file.suffix in wanted and file.is_file())


def _read_day(table: Sheet, drives: dict[str, Drive], problems: Problems) -> None:
    line, heading = next(table.rows, (0, []))
    at = columns_of(table.name, heading, _DAILY)
    table.width.columns_max = max(at.values()) + 1  # behind them come some two hundred that nobody asks for
    for line, cells in table.rows:
        if not cells:
            continue
        try:
            _read_drive(cells, at, table.width.columns_max, drives)
        except BadCell as bad:
            problems.add(line, bad, table.name)


def _read_drive(cells: list[str], at: dict[str, int], width: int, drives: dict[str, Drive]) -> None:
    if len(cells) < width:
        raise BadCell(f"{len(cells)} columns; {width} or more are expected")
    serial, model = cells[at["serial_number"]].strip(), cells[at["model"]].strip()
    if not serial or not model or len(serial) > 100 or len(model) > 100:
        raise BadCell(f"serial_number, model: {serial[:40]!r}, {model[:40]!r}: one is empty, or too long")
    day = _day(cells[at["date"]])
    failed = whole(cells, at["failure"], "failure", 1) == 1
    drive = drives.get(serial)
    if drive is None:
        if len(drives) >= _DRIVES_MAX:
            raise BadCell(f"serial_number: more than {_DRIVES_MAX} drives")
        drives[serial] = Drive(model=model, first_day=day, last_day=day, days=1, failed=failed)
        return
    drive.first_day, drive.last_day = min(drive.first_day, day), max(drive.last_day, day)
    drive.days += 1
    drive.failed = drive.failed or failed


@lru_cache(maxsize=16)
def _day(text: str) -> int:
    try:
        return date.fromisoformat(text.strip()).toordinal()
    except ValueError as error:
        raise BadCell(f"date: {text[:40]!r} is not a date as 2024-06-30") from error


def load_survival(path: Path) -> Table:
    """Read a summary of the survival by model, as zachmayer/backblaze_analysis publishes it.

    The table has the columns of the file that are used here, the annualised failure rate of each model, and the mean
    hazard over five years, -ln(survival) / 5, both a year.

    Raises: InputError with every malformed line (at most 20 are named), or if it is another table.
    """
    source = sheet(path)
    _, heading = next(source.rows, (0, []))
    at = columns_of(str(path), heading, _SUMMARY)
    problems = Problems(path)
    rows: list[list[float]] = []
    models: list[str] = []
    for line, cells in source.rows:
        if not cells:
            continue
        try:
            values = [number(cells, at[name], name) for name in _SUMMARY[1:]]
            if not 0 <= values[3] <= values[4] <= values[5] <= 1:
                raise BadCell(f"surv_5yr: {values[3:]} do not rise within [0, 1]")
            if values[1] == 0:
                raise BadCell("drive_days: is 0")
        except BadCell as bad:
            problems.add(line, bad)
            continue
        models.append(cells[at["model"]].strip()[:100])
        rows.append(values)
    problems.finish()
    if not rows:
        raise InputError([f"{path}: holds no model"])
    columns = dict(zip(_SUMMARY[1:], np.asarray(rows).T, strict=True))
    return Table(
        {
            "model": models,
            **columns,
            "annual_rate": columns["failed"] / (columns["drive_days"] * 24.0 / YEAR_H),
            "hazard_5yr": -np.log(np.maximum(columns["surv_5yr"], 1e-300)) / 5.0,
        },
        {"drive_days": "d", "annual_rate": "1/a", "hazard_5yr": "1/a"},
        "Survival by drive model",
    )
