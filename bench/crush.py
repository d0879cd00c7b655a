"""What a mapping costs against crushtool, what a what-if costs against mapping all again, and the memory of a million.

CPU time, the least of some turns; crushtool and we run in turns, so that other work on the computer meets both.
"""

import importlib.util
import lzma
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.running import ROOT
from bench.table import Row
from twin.crush.compile import Compiled, compile_map
from twin.crush.compiled import Prefer, map_best
from twin.crush.delta import Baseline, baseline, what_if
from twin.crush.edit import add_host, set_out
from twin.crush.map import ONE, CrushMap
from twin.crush.osdmap import OsdMap, OsdState
from twin.crush.pools import reweights
from twin.crush.read import read_map

MID = ROOT / "tests/data/crush/mid.bin.xz"
LAYERS = ("host", "straw2", "1", "rack", "straw2", "100", "root", "straw2", "0")
BIG_OSDS, REPLICAS, TURNS, QUICK_TURNS = 10_000, 3, 3, 9
MID_INPUTS, BIG_INPUTS, MANY = 100_000, 20_000, 1_000_000
OUT = tuple(range(7, 2_400, 200))
"""The twelve OSDs that are out in the what-if."""
TARGETS: dict[tuple[str, Prefer], float] = {
    ("mid", "numpy"): 0.8,
    ("big", "numpy"): 0.4,
    ("mid", "numba"): 0.3,
    ("big", "numba"): 0.15,
}
DELTA_MIN = 15
T = TypeVar("T")


def rows() -> Iterator[Row]:
    """Measure both maps, the what-ifs and the memory, with NumPy and, where it is installed, with numba."""
    if shutil.which("crushtool") is None:
        yield Row(what="crushtool is not installed (Debian: ceph-base)", measured="nothing measured")
        return
    ways: list[Prefer] = ["numpy"]
    if importlib.util.find_spec("numba"):
        ways.append("numba")
    with TemporaryDirectory() as folder:
        mid, big = Path(folder) / "mid.bin", Path(folder) / "big.bin"
        mid.write_bytes(lzma.decompress(MID.read_bytes()))
        build = ["crushtool", "-o", str(big), "--build", "--num_osds", str(BIG_OSDS), *LAYERS]
        subprocess.run(build, check=True, capture_output=True)
        crush = read_map(mid)[0]
        for name, path, inputs in (("mid", mid, MID_INPUTS), ("big", big, BIG_INPUTS)):
            yield from _against_tool(name, path, inputs, ways)
        for prefer in ways:
            yield from _what_ifs(crush, prefer)
        yield from (_memory(mid, prefer) for prefer in ways)


def _against_tool(name: str, path: Path, inputs: int, ways: list[Prefer]) -> Iterator[Row]:
    compiled = compile_map(read_map(path)[0])
    xs = np.arange(inputs)
    tool_s: list[float] = []
    ours_s: dict[Prefer, list[float]] = {prefer: [] for prefer in ways}
    for prefer in ways:
        _map_s(compiled, xs[:100], prefer)
    for _ in range(TURNS):
        tool_s.append(_tool_s(path, inputs))
        for prefer in ways:
            ours_s[prefer].append(_map_s(compiled, xs, prefer))
    least_s = min(tool_s)
    words = f"{name} map, {compiled.device_count:,d} OSDs, {REPLICAS} replicas"
    yield Row(what=f"{words}: crushtool", measured=f"{1e6 * least_s / inputs:.1f} µs an input")
    for prefer in ways:
        ratio, target = min(ours_s[prefer]) / least_s, TARGETS[name, prefer]
        yield Row(
            what=f"{words}: {prefer} / crushtool",
            measured=f"{ratio:.2f} x",
            target=f"<= {target} x",
            ok=ratio <= target,
        )


def _tool_s(path: Path, inputs: int) -> float:
    """User CPU time of crushtool mapping these inputs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    span = ["--min-x", "0", "--max-x", str(inputs - 1), "--rule", "0", "--num-rep", str(REPLICAS)]
    command = ["crushtool", "-i", str(path), "--test", "--show-mappings", *span]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def _map_s(compiled: Compiled, xs: NDArray[np.int64], prefer: Prefer) -> float:
    weights = np.full(compiled.device_count, ONE, np.uint32)
    return _cpu_s(lambda: map_best(compiled, 0, xs, REPLICAS, weights, prefer=prefer))[0]


def _cpu_s(run: Callable[[], T]) -> tuple[float, T]:
    began_s = time.process_time()
    made = run()
    return time.process_time() - began_s, made


def _what_ifs(crush: CrushMap, prefer: Prefer) -> Iterator[Row]:
    """Compare a what-if with mapping all inputs again, and check that both say the same."""
    osdmap = OsdMap(epoch=1, crush=crush, osds=tuple(OsdState(id=device.id) for device in crush.devices), pools=())
    compiled = compile_map(crush)
    xs = np.arange(MID_INPUTS)
    rack = next(bucket.name for bucket in crush.buckets if bucket.type_id == 2)
    after = {
        f"{len(OUT)} of {len(osdmap.osds):,d} OSDs out": set_out(osdmap, OUT),
        "a host of 12 added": add_host(osdmap, "new", [("", ONE)] * 12, rack),
    }
    spent_s, base = _cpu_s(lambda: baseline(compiled, 0, xs, REPLICAS, reweights(osdmap), prefer=prefer))
    yield Row(what=f"what-if, {prefer}: the baseline of {MID_INPUTS:,d} inputs", measured=f"{1e3 * spent_s:.0f} ms")
    for what, changed in after.items():
        yield _what_if(base, what, compile_map(changed.crush), reweights(changed), prefer)


def _what_if(base: Baseline, what: str, compiled: Compiled, weights: NDArray[np.uint32], prefer: Prefer) -> Row:
    whole_s, again_s, same, touched = [], [], True, 0
    for _ in range(QUICK_TURNS):
        spent_s, again = _cpu_s(lambda: what_if(base, compiled, weights, prefer))
        again_s.append(spent_s)
        spent_s, whole = _cpu_s(lambda: map_best(compiled, 0, base.xs, REPLICAS, weights, prefer=prefer))
        whole_s.append(spent_s)
        same, touched = same and bool(np.array_equal(again.mapped, whole)), again.again
    ratio = min(whole_s) / min(again_s)
    return Row(
        what=f"what-if, {prefer}: {what}, {touched:,d} inputs mapped again",
        measured=f"{ratio:.1f} x faster{'' if same else ', WRONG'}",
        target=f">= {DELTA_MIN} x, the same",
        ok=same and ratio >= DELTA_MIN,
    )


def _memory(path: Path, prefer: Prefer) -> Row:
    """The most memory of a process that maps a million inputs, less that of one that maps a hundred."""
    script = (
        "import sys, numpy as np; from pathlib import Path; from twin.crush.read import read_map;"
        "from twin.crush.compile import compile_map; from twin.crush.compiled import map_best;"
        "made = compile_map(read_map(Path(sys.argv[1]))[0]); ones = np.full(made.device_count, 65536, np.uint32);"
        "map_best(made, 0, np.arange(int(sys.argv[2])), 3, ones, prefer=sys.argv[3]);"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    few, many = (_peak_kib(script, path, inputs, prefer) for inputs in (100, MANY))
    more_mib = (many - few) / 1_024
    return Row(
        what=f"memory for {MANY:,d} inputs x {REPLICAS}, {prefer}, beside {few / 1_024:.0f} MiB for 100",
        measured=f"{more_mib:+.0f} MiB",
        target="<= +200 MiB",
        ok=more_mib <= 200,
    )


def _peak_kib(script: str, path: Path, inputs: int, prefer: Prefer) -> int:
    command = [sys.executable, "-c", script, str(path), str(inputs), prefer]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
