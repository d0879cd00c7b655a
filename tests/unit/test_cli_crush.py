"""The command `twin crush`: its lines are crushtool's, and wrong options and files end with exit code 2."""

import lzma
from pathlib import Path

import pytest

from twin.cli import main

OURS = Path(__file__).parents[1] / "data" / "crush"


@pytest.fixture
def mid(tmp_path: Path) -> Path:
    path = tmp_path / "mid.bin"
    path.write_bytes(lzma.decompress((OURS / "mid.bin.xz").read_bytes()))
    return path


def recorded(name: str) -> str:
    return lzma.decompress((OURS / name).read_bytes()).decode()


def test_the_mappings_are_printed_as_crushtool_prints_them(mid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crush", str(mid), "--rule", "0", "--num-rep", "3", "--min-x", "0", "--max-x", "1999"]) == 0
    assert capsys.readouterr().out == recorded("mid.r3.x0-1999.txt.xz")


@pytest.mark.parametrize("out", [["--weight", "7", "0"], ["--out", "osd.7"], ["--out", "7"]])
def test_reweights_are_heeded(mid: Path, out: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rule", "replicated_rule", "--num-rep", "3", "--min-x", "0", "--max-x", "1999"]
    assert main(["crush", str(mid), *options, "--weight", "8", "0.5", *out]) == 0
    assert capsys.readouterr().out == recorded("mid.r3.osd7out.osd8half.txt.xz")


def test_without_a_range_there_are_1024_inputs_for_each_size_of_the_rule(
    mid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["crush", str(mid)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10 * 1024
    assert lines[1024].startswith("CRUSH rule 0 x 0 [1247,1997]")


def test_bad_mappings_and_statistics_are_told_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(OURS / "uniform_48.txt")
    assert main(["crush", path, "--rule", "rep_rack", "--num-rep", "4", "--x", "5", "--show-bad-mappings"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("bad mapping rule 1 x 5 num_rep 4 result [")
    assert "3 decimals" in captured.err
    options = ["--num-rep", "4", "--show-statistics", "--min-x", "0", "--max-x", "9"]
    assert main(["crush", path, "--rule", "1", *options]) == 0
    assert capsys.readouterr().out == (
        "rule 1 (rep_rack), x = 0..9, numrep = 4..4\nrule 1 (rep_rack) num_rep 4 result size == 3:\t10/10\n"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--rule", "9"], "has no such rule; allowed: 0 (replicated_rule)"),
        (["--rule", "none"], "has no such rule"),
        (["--weight", "x", "1"], "--weight x 1: allowed"),
        (["--weight", "1", "much"], "--weight 1 much: allowed"),
        (["--weight", "1", "nan"], "--weight 1 nan: allowed"),
        (["--weight", "1", "2"], "--weight 1 2: allowed"),
        (["--min-x", "9", "--max-x", "3"], "--min-x 9: allowed: up to --max-x 3"),
        (["--x", "1", "--max-x", "3"], "--x: goes with neither"),
        (["--choose-args", "12"], "--choose-args 12"),
    ],
)
def test_wrong_options_are_refused_by_name(
    mid: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["crush", str(mid), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert problem in captured.err


def test_a_missing_map_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crush", str(tmp_path / "none.bin")]) == 2
    assert "none.bin: cannot be read" in capsys.readouterr().err
