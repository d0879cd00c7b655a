"""Tables of results: columns of equal length that pandas, polars, a terminal and a notebook show alike."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from twin.table import Table

TABLE = Table(
    {"nodes": [5, 6], "usable": [1.5e12, 1.75e12], "why": ["now", "one <more>"]}, {"usable": "bytes"}, title="Growth"
)


def test_pandas_takes_a_table_with_its_names_types_and_order() -> None:
    frame = pd.DataFrame(TABLE)
    assert list(frame.columns) == ["nodes", "usable", "why"]
    assert frame["nodes"].dtype == np.int64
    assert frame["usable"].sum() == 3.25e12


def test_polars_takes_a_table_too() -> None:
    frame = pl.DataFrame(TABLE)
    assert frame.columns == ["nodes", "usable", "why"]
    assert frame["nodes"].to_list() == [5, 6]


def test_rows_hold_pythons_own_numbers() -> None:
    assert TABLE.rows[1] == {"nodes": 6, "usable": 1.75e12, "why": "one <more>"}
    assert type(TABLE.rows[0]["nodes"]) is int


def test_a_terminal_sees_names_units_and_numbers_in_line() -> None:
    assert TABLE.to_text().splitlines() == [
        "Growth",
        "nodes             usable  why",
        "                   bytes",
        "    5  1,500,000,000,000  now",
        "    6  1,750,000,000,000  one <more>",
    ]


def test_a_notebook_sees_escaped_html() -> None:
    html = TABLE.to_html()
    assert "<td>one &lt;more&gt;</td>" in html
    assert "<caption>Growth</caption>" in html
    assert "<small>bytes</small>" in html


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"differ in length.*'b': 1"):
        Table({"a": [1, 2], "b": [1]})


def test_a_unit_without_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"do not exist: \['c'\]"):
        Table({"a": [1]}, {"c": "bytes"})


def test_what_is_not_known_and_what_is_next_to_nothing_are_not_spelt_out() -> None:
    assert Table({"a": [float("nan"), 1e-300, -1e-300, 0.0]}).to_text().split() == ["a", "-", "<1e-12", ">-1e-12", "0"]
