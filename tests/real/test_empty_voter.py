"""A ZooKeeper server that lost its data: it must not help to elect one that lacks what was acknowledged."""

import shutil
from collections.abc import Iterator

import pytest

from drivers import zookeeper_jute as jute
from drivers import zookeeper_server as server
from drivers.zookeeper_codec import OK
from drivers.zookeeper_tree import ALL, Grant
from tests.real.zookeeper_ensemble import Ensemble, wait_until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("zookeeper")]

ELECTION_S = 6
"""An election among these servers takes one second, three on a busy machine."""


@pytest.fixture
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    made = Ensemble(tmp_path_factory.mktemp("lost"), subnet=27, session_timeout_ms=4_000)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_server_without_data_and_one_that_is_behind_elect_nobody(ensemble: Ensemble) -> None:
    knows, empty, behind = ensemble.nodes
    ensemble.kill(behind)
    ensemble.await_serving([knows, empty])
    with ensemble.brief() as brief:
        error, outcome = brief.commit([jute.create("/acknowledged", b"1", anybody())])
        assert (error, outcome.errors if outcome is not None else ()) == (OK, (OK,))
    ensemble.kill(empty)
    ensemble.kill(knows)
    shutil.rmtree(server.folder(ensemble.configs[empty]) / "data")
    for node in (empty, behind):
        ensemble.run(node, server.command(ensemble.configs[node]))
    with pytest.raises(AssertionError, match="an election"):
        wait_until(lambda: any(ensemble.status(n).serves for n in (empty, behind)), ELECTION_S, "an election")
    assert all(ensemble.runs(node) for node in (empty, behind))
    ensemble.run(knows, server.command(ensemble.configs[knows]))
    ensemble.await_serving(ensemble.nodes)
    for node in ensemble.nodes:
        with ensemble.brief(node) as brief:
            brief.ask(jute.sync("/"))
            assert brief.get("/acknowledged")[1].data == b"1"  # type: ignore[union-attr]  # it is there


def anybody() -> tuple[Grant, ...]:
    """Everybody may do everything: this ensemble has no certificates."""
    return (Grant(ALL, "world", "anyone"),)
