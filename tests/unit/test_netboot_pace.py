"""Who loads when and how fast, on a clock of the test's own."""

import asyncio

from core.ids import NodeId
from drivers.netboot.pace import Bandwidth, Line, Streams

NODES = [NodeId(f"n{number}") for number in range(1, 41)]


def test_bandwidth_is_what_was_configured_over_any_longer_time() -> None:
    bandwidth, now_ms, sent = Bandwidth(800), 1_000.0, 0  # 100,000 bytes a ms
    while now_ms < 2_000:
        now_ms += bandwidth.reserve(250_000, now_ms)
        sent += 250_000
    assert 95_000_000 <= sent <= 115_000_000


def test_two_who_send_equal_pieces_get_equal_shares() -> None:
    bandwidth = Bandwidth(8)  # 1,000 bytes a ms
    ready = {"a": 0.0, "b": 0.0}
    sent = {"a": 0, "b": 0}
    for _ in range(200):
        who = min(ready, key=lambda name: (ready[name], name))
        ready[who] += bandwidth.reserve(10_000, ready[who])
        sent[who] += 10_000
    assert abs(sent["a"] - sent["b"]) <= 20_000


def test_a_pause_saves_up_no_more_than_a_tenth_of_a_second() -> None:
    bandwidth = Bandwidth(8)
    assert bandwidth.reserve(1_000, 1_000_000) == 0
    waits = [bandwidth.reserve(10_000, 1_000_000) for _ in range(20)]
    assert waits[-1] > 80


def test_as_many_machines_load_as_there_are_places_and_the_others_in_the_order_they_came() -> None:
    line = Line(3)
    answers = {node: line.ask(node, 0) for node in NODES}
    assert line.inside == tuple(NODES[:3])
    assert all(answers[node] > 0 for node in NODES[3:])
    line.leave(NODES[0])
    assert line.ask(NODES[10], 1_000) > 0  # not yet its turn, although a place is free
    assert line.ask(NODES[3], 1_000) == 0


def test_asking_again_keeps_a_place_in_line_and_a_place_inside() -> None:
    line = Line(1)
    assert line.ask(NODES[0], 0) == 0
    assert line.ask(NODES[1], 0) > 0
    assert line.ask(NODES[2], 0) > 0
    assert line.ask(NODES[1], 5_000) > 0
    assert line.ask(NODES[0], 5_000) == 0
    line.leave(NODES[0])
    assert line.ask(NODES[2], 6_000) > 0
    assert line.ask(NODES[1], 6_000) == 0


def test_whoever_stops_loading_gives_the_place_to_the_next() -> None:
    line = Line(1, idle_ms=90_000)
    assert line.ask(NODES[0], 0) == 0
    for now_ms in range(0, 90_001, 10_000):
        assert line.ask(NODES[1], now_ms) > 0
    line.moved(NODES[0], 90_000)
    assert line.ask(NODES[1], 100_000) > 0
    for now_ms in range(110_000, 180_001, 10_000):
        assert line.ask(NODES[1], now_ms) > 0
    assert line.ask(NODES[1], 180_002) == 0


def test_whoever_never_comes_again_holds_up_nobody() -> None:
    line = Line(1, gone_ms=45_000)
    assert line.ask(NODES[0], 0) == 0
    assert line.ask(NODES[1], 0) > 0
    assert line.ask(NODES[2], 40_000) > 0
    line.leave(NODES[0])
    assert line.ask(NODES[2], 50_000) == 0


def test_nobody_is_told_to_wait_longer_than_the_place_in_line_lasts() -> None:
    line = Line(1)
    assert max(line.ask(NodeId(f"x{number}"), 0) for number in range(500)) <= 10


def test_streams_let_the_first_in_line_in_first() -> None:
    async def run() -> list[str]:
        streams, came = Streams(1), []
        assert await streams.enter(100)

        async def one(name: str) -> None:
            assert await streams.enter(5_000)
            came.append(name)
            streams.leave()

        tasks = [asyncio.create_task(one(name)) for name in "abc"]
        await asyncio.sleep(0)
        streams.leave()
        await asyncio.gather(*tasks)
        assert await streams.enter(0)
        return came

    assert asyncio.run(run()) == ["a", "b", "c"]


def test_whoever_waits_too_long_or_goes_away_is_out_of_the_line() -> None:
    async def run() -> None:
        streams = Streams(1)
        assert await streams.enter(100)
        assert not await streams.enter(1)
        gone = asyncio.create_task(streams.enter(60_000))
        await asyncio.sleep(0)
        assert streams.waiting == 1
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert streams.waiting == 0
        streams.leave()
        assert await streams.enter(0)

    asyncio.run(run())


def test_the_line_itself_is_bounded() -> None:
    async def run() -> None:
        streams = Streams(1, waiting_max=2)
        assert await streams.enter(100)
        waiting = [asyncio.create_task(streams.enter(60_000)) for _ in range(2)]
        await asyncio.sleep(0)
        assert not await streams.enter(60_000)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())
