"""The simulated netboot: windows, a crowd that times out, and shared bandwidth."""

from functools import partial

import pytest

from core.ids import NodeId
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.boot_server import BootServer, Pace
from twin.world.fabric import Fabric
from twin.world.netboot import Boot, Netboot, NetbootFault, NetbootTimes

SERVER, OTHER = NodeId("s1"), NodeId("s2")
NODES = [NodeId(f"n{i:02}") for i in range(60)]
HOUR = 3_600_000


class Bench:
    """Two possible boot servers, of which the first runs, and sixty machines."""

    def __init__(self, seed: int = 1) -> None:
        self.kernel = Kernel()
        self.fabric = Fabric()
        self.fabric.add_switch("sw")
        for node in [SERVER, OTHER, *NODES]:
            self.fabric.add_node(node, ["sw"])
        self.netboot = Netboot(self.kernel, Streams(seed), load(), self.fabric)
        self.netboot.server_up(SERVER)
        self.ends: dict[NodeId, tuple[int, bool, str]] = {}

    def boot(self, node: NodeId) -> None:
        def done(ok: bool, why: str) -> None:
            assert node not in self.ends
            self.ends[node] = (self.kernel.now, ok, why)

        self.netboot.boot(node, done)

    def allow(self, *nodes: NodeId, server: NodeId = SERVER, ms_max: int = HOUR) -> None:
        for node in nodes:
            self.netboot.allow(server, node, ms_max)

    def run(self, ms: int) -> None:
        self.kernel.run(self.kernel.now + ms)


def test_one_machine_alone_loads_at_its_own_speed() -> None:
    bench = Bench()
    bench.netboot.set_image_bytes(550_000_000)
    bench.allow(NODES[0])
    bench.boot(NODES[0])
    bench.run(60_000)
    at_ms, ok, _ = bench.ends[NODES[0]]
    assert ok
    assert 3_300 <= at_ms <= 6_500, "2.3 to 5.5 s to the script, then 1.0 s for the image"
    assert (bench.netboot.timeouts, bench.netboot.served) == (0, 1)


def test_without_a_window_nobody_answers_and_the_machine_gives_up() -> None:
    bench = Bench()
    bench.allow(NODES[0], ms_max=1_000)
    bench.run(1_001)
    bench.boot(NODES[0])
    bench.run(120_000)
    at_ms, ok, why = bench.ends[NODES[0]]
    assert not ok
    assert why == "no boot server answered"
    assert 61_000 <= at_ms <= 66_000, "4 + 8 + 16 + 32 s"


def test_forty_machines_at_once_time_out_and_retry_and_staggered_ones_do_not() -> None:
    crowd, queue = Bench(), Bench()
    for bench, gap_ms in ((crowd, 0), (queue, 1_000)):
        bench.allow(*NODES[:40])
        for node in NODES[:40]:
            bench.boot(node)
            bench.run(gap_ms)
        bench.run(300_000)
        assert len(bench.ends) == 40
    assert sum(ok for _, ok, _ in crowd.ends.values()) >= 30, "the last ones may run out of tries"
    assert all(ok for _, ok, _ in queue.ends.values())
    assert crowd.netboot.timeouts >= 32
    assert queue.netboot.timeouts == 0


def test_sixty_machines_are_too_many_for_one_server_at_once_but_not_for_two() -> None:
    one, two = Bench(), Bench()
    two.netboot.server_up(OTHER)
    for bench in (one, two):
        bench.allow(*NODES)
        bench.allow(*NODES, server=OTHER)
        for node in NODES:
            bench.boot(node)
        bench.run(600_000)
        assert len(bench.ends) == 60
    assert two.netboot.served > one.netboot.served
    assert max(end[0] for end in two.ends.values()) <= max(end[0] for end in one.ends.values())


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no_dhcp", "no boot server answered"),
        ("tftp_timeout", "the boot loader timed out"),
        ("bad_image", "the image failed its check"),
    ],
)
def test_each_fault_ends_the_boot_with_its_reason(fault: NetbootFault, why: str) -> None:
    bench = Bench()
    bench.allow(NODES[0], NODES[1])
    bench.netboot.fail(NODES[0], fault)
    bench.boot(NODES[0])
    bench.boot(NODES[1])
    bench.run(300_000)
    assert bench.ends[NODES[0]][1:] == (False, why)
    assert bench.ends[NODES[1]][1]
    bench.netboot.fail(NODES[0], "ok")
    del bench.ends[NODES[0]]
    bench.boot(NODES[0])
    bench.run(300_000)
    assert bench.ends[NODES[0]][1]


def test_a_server_that_dies_cuts_its_transfers_off_and_another_takes_over() -> None:
    bench = Bench()
    bench.netboot.set_image_bytes(20_000_000_000)
    bench.allow(NODES[0])
    bench.allow(NODES[0], server=OTHER)
    bench.boot(NODES[0])
    bench.run(10_000)
    bench.netboot.server_down(SERVER)
    bench.netboot.server_up(OTHER)
    bench.run(120_000)
    assert bench.ends[NODES[0]][1]
    assert bench.ends[NODES[0]][0] >= 20_000 + 36_000


def test_an_aborted_boot_is_never_reported_and_frees_its_share() -> None:
    bench = Bench()
    bench.netboot.set_image_bytes(5_500_000_000)
    bench.allow(*NODES[:3])
    for node in NODES[:3]:
        bench.boot(node)
    bench.run(6_000)
    bench.netboot.abort(NODES[0])
    bench.netboot.abort(NODES[0])
    bench.run(60_000)
    assert NODES[0] not in bench.ends
    assert all(16_000 - 3_000 <= bench.ends[node][0] <= 17_500 for node in NODES[1:3])


def dumb_sharing(jobs: list[tuple[int, int]], rate: int, cap: int) -> list[int]:
    """Processor sharing one millisecond at a time: (begin, bytes) -> end."""
    left = [size for _, size in jobs]
    ends = [-1] * len(jobs)
    now = 0
    while -1 in ends:
        active = [i for i, (begin, _) in enumerate(jobs) if begin <= now and ends[i] < 0]
        for i in active:
            left[i] -= min(rate // len(active), cap)
        now += 1
        for i in active:
            if left[i] <= 0:
                ends[i] = now
    return ends


def shared(jobs: list[tuple[int, int]], times: NetbootTimes) -> list[int]:
    """The same jobs through a boot server."""
    kernel = Kernel()
    rates = (times.server_bytes_per_ms, times.client_bytes_per_ms)
    pace = Pace(server_bytes_per_ms=rates[0], client_bytes_per_ms=rates[1])
    server = BootServer(SERVER, kernel, pace, lambda _: None)
    ends: dict[str, int] = {}
    for index, (begin, size) in enumerate(jobs):
        boot = Boot(NodeId(str(index)), None, lambda *_: None)
        kernel.at(begin, server.join, boot, size, lambda _, boot=boot: ends.setdefault(boot.node, kernel.now))
    kernel.run(10_000_000)
    return [ends[str(index)] for index in range(len(jobs))]


def crowd(streams_max: int, machines: int = 40) -> tuple[list[int], list[int]]:
    """Machines that load 100 MB each at once over one gigabit: when they were done, and when any broke off."""
    kernel = Kernel()
    ends: list[int] = []
    broken: list[int] = []
    pace = Pace(
        server_bytes_per_ms=112_500,
        client_bytes_per_ms=112_500,
        streams_max=streams_max,
        least_bytes_per_ms=4_000,
        patience_ms=10_000,
    )
    server = BootServer(SERVER, kernel, pace, lambda _: broken.append(kernel.now))
    for number in range(machines):
        boot = Boot(NodeId(str(number)), None, lambda *_: None)
        server.join(boot, 100_000_000, lambda _: ends.append(kernel.now))
    kernel.run(600_000)
    return ends, broken


def test_forty_at_once_starve_and_forty_that_stand_in_line_do_not() -> None:
    ends, broken = crowd(streams_max=0)
    assert len(broken) == 12, "28 of them get 4 MB a second"
    assert set(broken) == {10_000}
    assert len(ends) == 28
    ends, broken = crowd(streams_max=8)
    assert (len(ends), broken) == (40, [])
    assert max(ends) == pytest.approx(40 * 100_000_000 / 112_500, rel=0.001), "nothing is sent in vain"
    assert min(ends) == pytest.approx(max(ends) / 5, rel=0.001)


def test_a_crowd_that_is_small_enough_loses_nobody() -> None:
    assert crowd(streams_max=0, machines=28)[1] == []
    assert len(crowd(streams_max=0, machines=29)[1]) == 1


def test_who_leaves_the_line_is_not_served_and_holds_nobody_up() -> None:
    kernel = Kernel()
    ends: list[str] = []
    pace = Pace(server_bytes_per_ms=1_000, client_bytes_per_ms=1_000, streams_max=1)
    server = BootServer(SERVER, kernel, pace, lambda _: None)
    boots = [Boot(NodeId(str(number)), None, lambda *_: None) for number in range(3)]
    for boot in boots:
        server.join(boot, 1_000_000, partial(lambda node, _: ends.append(node), boot.node))
    server.leave(boots[1])
    kernel.run(2_000)
    assert ends == ["0", "2"]
    server.join(boots[0], 1_000_000, lambda _: ends.append("again"))
    server.join(boots[1], 1_000_000, lambda _: ends.append("again"))
    assert server.stop() == [boots[0], boots[1]], "who is sent to and who stands in line"


def test_bandwidth_is_shared_as_a_dumb_model_shares_it() -> None:
    streams = Streams(11)
    times = load().section("netboot", NetbootTimes)
    for case in range(20):
        stream = streams.get(f"case/{case}")
        jobs = sorted((stream.integers(0, 400), stream.integers(1_000, 90_000) * 1_000) for _ in range(12))
        assert shared(jobs, times) == dumb_sharing(jobs, times.server_bytes_per_ms, times.client_bytes_per_ms)


def test_a_cold_start_of_a_thousand_machines_costs_few_events() -> None:
    kernel = Kernel()
    fabric = Fabric()
    fabric.add_switch("sw")
    nodes = [NodeId(f"n{i:04}") for i in range(1_000)]
    for node in nodes:
        fabric.add_node(node, ["sw"])
    netboot = Netboot(kernel, Streams(1), load(), fabric)
    netboot.server_up(nodes[0])
    booted: list[NodeId] = []

    def up(ok: bool, node: NodeId) -> None:
        if ok:
            booted.append(node)
            netboot.server_up(node)

    for index, node in enumerate(nodes[1:], 1):
        for server in nodes[:index:7]:
            netboot.allow(server, node, HOUR)
        kernel.at(index * 100, netboot.boot, node, lambda ok, _, node=node: up(ok, node))
    kernel.run(HOUR)
    assert len(booted) == 999
    assert kernel.events <= 12 * len(nodes)
