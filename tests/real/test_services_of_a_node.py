"""Services under the real supervisor: real processes, their health, their rights, their ends."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from core import effects as fx
from core.events import OpFailed, OpSucceeded, ServiceExited
from core.ids import Epoch, OpId
from drivers.units import FAILURES_MAX
from formats.catalog import Catalog, CatalogService, Health, Process
from tests.unit.supervising import CRON, DB, DNS, EPOCH, INSTANCE, VOLUME, Node, serve, service, stopped

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("services")]

SH = ("sh", "-c")
Make = Callable[..., Node]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Node] = []

    def node(*services: CatalogService, cgroups: bool = True) -> Node:
        made.append(Node(tmp_path, *services, cgroups=cgroups))
        return made[-1]

    yield node
    for one in made:
        one.close()


@pytest.fixture(params=[True, False], ids=["cgroup", "group"])
def cgroups(request: pytest.FixtureRequest) -> bool:
    """With a cgroup where one may be made, and as where none may."""
    return bool(request.param)


# -- a catalog that changes --------------------------------------------------------------------------------------------


def test_what_left_a_new_catalog_or_is_another_service_there_is_named_and_the_rest_goes_on(make: Make) -> None:
    node = make()
    node.send(node.start(), node.start(DNS))
    node.settle()
    db, cron, dns = (node.services[name] for name in (DB, CRON, DNS))
    other = msgspec.structs.replace(db, spec=msgspec.structs.replace(db.spec, address="10.0.0.101"))
    assert node.units.take(Catalog(name="same", services=(db, cron, dns))) == []
    assert [unit.name for unit in node.units.take(Catalog(name="less", services=(db, cron)))] == [DNS]
    assert [unit.name for unit in node.units.take(Catalog(name="new", services=(other, dns)))] == [DB]
    assert {unit.state for unit in node.units.in_order()} == {"running"}


# -- processes -----------------------------------------------------------------------------------------------------


def test_placeholders_are_filled_and_other_braces_stay(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = "{mount}|{address}|{node}|{epoch}|{service}|{run_dir}|{other}"
    command = (*SH, f'echo "$1|$MINE" > {out}; exec sleep 600', "sh", text)
    node = make(service(DB, process=Process(command=command, env={"MINE": "{epoch}"})))
    node.send(node.start())
    node.settle()
    assert out.read_text(encoding="ascii").strip() == (
        f"{tmp_path}/vol|10.0.0.100|n1|1|db|{tmp_path}/services/db|{{other}}|1"
    )


def test_what_a_service_prints_is_in_its_log_and_nothing_of_our_environment_reaches_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "hidden")
    node = make(service(DNS, (*SH, 'echo "[$OURS]"; echo wrong >&2; exec sleep 600')))
    node.send(node.start(DNS))
    node.settle()
    assert (tmp_path / "log/dns.log").read_text(encoding="ascii") == "[]\nwrong\n"


def test_everything_that_a_service_started_is_killed_with_it(make: Make, cgroups: bool) -> None:
    node = make(service(DNS, (*SH, "setsid sleep 600 & sleep 600 & exec sleep 600")), cgroups=cgroups)
    node.send(node.start(DNS))
    node.settle()
    node.wait(lambda: len(node.pids(DNS)) == 3)
    node.send(node.stop(DNS, kill=True))
    node.settle()
    assert node.pids(DNS) == []
    assert stopped(node) == [False]


def test_what_the_main_process_leaves_behind_is_killed_and_that_is_not_clean(make: Make) -> None:
    node = make(service(DB, (*SH, "setsid sleep 600 & exec sleep 600")))
    node.send(node.start())
    node.settle()
    node.send(node.stop())
    node.settle()
    assert node.pids(DB) == []
    assert stopped(node) == [False]


def test_a_service_is_stopped_by_its_own_signal(make: Make, tmp_path: Path) -> None:
    command = (*SH, f"trap 'echo quit > {tmp_path}/said; exit 0' QUIT; while :; do sleep 0.05; done")
    node = make(service(DNS, process=Process(command=command, stop_signal="QUIT")))
    node.send(node.start(DNS))
    node.settle()
    node.send(node.stop(DNS))
    node.settle()
    assert (tmp_path / "said").exists()
    assert stopped(node) == [True]


def test_one_that_ignores_its_signal_is_killed_in_time_and_that_is_not_clean(make: Make) -> None:
    node = make(service(DB, (*SH, "trap '' TERM; while :; do sleep 0.05; done")))
    node.send(node.start())
    node.settle()
    node.send(node.stop(ms_max=1_000))
    node.settle()
    assert node.pids(DB) == []
    assert stopped(node) == [False]


def test_a_new_supervisor_kills_what_a_dead_one_left(make: Make, cgroups: bool) -> None:
    node = make(cgroups=cgroups)
    node.send(node.start(DNS))
    node.settle()
    make(cgroups=cgroups)
    node.wait(lambda: bool(node.of(ServiceExited)))
    assert node.pids(DNS) == []


# -- starting ------------------------------------------------------------------------------------------------------


def test_a_program_that_is_not_there_fails_the_start_with_a_sentence(make: Make) -> None:
    node = make(service(DNS, ("no-such-program",)))
    node.send(node.start(DNS))
    node.settle()
    assert [answer.detail for answer in node.of(OpFailed)] == ["it ended: no-such-program: No such file or directory"]


def test_a_service_without_a_command_says_so(make: Make) -> None:
    node = make(service(DNS, ()))
    node.send(node.start(DNS))
    node.settle()
    assert [answer.detail for answer in node.of(OpFailed)] == ["it ended: no command: nothing to run"]


def test_a_service_that_ends_at_once_fails_its_start_and_can_be_started_again(make: Make, tmp_path: Path) -> None:
    node = make(service(DNS, (*SH, f"[ -e {tmp_path}/go ] || exit 3; exec sleep 600")))
    node.send(node.start(DNS))
    node.settle()
    assert [answer.detail for answer in node.of(OpFailed)] == ["it ended: exit status 3"]
    (tmp_path / "go").touch()
    node.send(node.start(DNS))
    node.settle()
    assert [answer.op for answer in node.of(OpSucceeded)] == [2]


def test_a_failed_mount_fails_the_start_and_nothing_runs(make: Make) -> None:
    node = make()
    node.shelf.problem = "no loop device"
    node.send(node.start())
    node.settle()
    assert [answer.detail for answer in node.of(OpFailed)] == ["no loop device"]
    assert node.pids(DB) == []


def test_a_held_service_is_not_started_and_the_answer_says_by_what(make: Make, tmp_path: Path) -> None:
    node = make()
    hold = tmp_path / "hold" / DNS
    hold.parent.mkdir()
    hold.touch()
    node.send(node.start(DNS))
    assert [answer.detail for answer in node.of(OpFailed)] == [f"held: remove {hold} to let it run"]
    hold.unlink()
    node.send(node.start(DNS))
    node.settle()
    assert [answer.op for answer in node.of(OpSucceeded)] == [2]


def test_stopping_during_the_mount_unmounts_after_it(make: Make) -> None:
    node = make()
    node.send(node.start(), node.stop())
    node.settle()
    assert [(a.op, type(a)) for a in node.answers()] == [(1, OpFailed), (2, OpSucceeded)]
    assert node.pids(DB) == []


# -- health --------------------------------------------------------------------------------------------------------


def test_a_service_is_healthy_once_its_port_answers(make: Make, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code = f"import http.server as h; h.HTTPServer(('127.0.0.1',{port}),h.SimpleHTTPRequestHandler).serve_forever()"
    wait = f'until [ -e {tmp_path}/go ]; do sleep 0.02; done; exec python3 -c "{code}"'
    for kind, path in (("tcp", ""), ("http", "/")):
        node = make(service(DNS, (*SH, wait), health=Health(kind=kind, port=port, path=path)))
        node.send(node.start(DNS))
        node.run(400)
        assert node.answers() == []
        (tmp_path / "go").touch()
        node.settle()
        assert [answer.op for answer in node.of(OpSucceeded)] == [1]
        node.send(node.stop(DNS, kill=True))
        node.settle()
        (tmp_path / "go").unlink()


def test_an_error_over_http_is_not_healthy_and_the_limit_says_what_was_wrong(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = ("python3", "-m", "http.server", "-b", "127.0.0.1", str(port))
    node = make(service(DNS, command, health=Health(kind="http", port=port, path="/no/such/page")))
    node.send(node.start(DNS, ms_max=2_000))
    node.settle()
    (failed,) = node.of(OpFailed)
    assert failed.detail == "not healthy within 2000 ms: /no/such/page answers 404"
    node.wait(lambda: not node.pids(DNS))


def test_failing_its_check_again_and_again_is_an_exit(make: Make, tmp_path: Path) -> None:
    health = Health(kind="command", command=("test", "-e", "{mount}/ok"), every_ms=50)
    node = make(service(DB, health=health))
    (tmp_path / VOLUME).mkdir()
    (tmp_path / VOLUME / "ok").touch()
    node.send(node.start())
    node.settle()
    (tmp_path / VOLUME / "ok").unlink()
    node.wait(lambda: bool(node.of(ServiceExited)))
    assert node.of(ServiceExited)[0].detail == f"{FAILURES_MAX} health checks failed: test: exit status 1"
    node.wait(lambda: not node.pids(DB))
    node.send(node.stop())
    node.settle()
    assert stopped(node) == [False], "it had to be killed"


def test_a_frozen_service_is_not_asked_and_does_not_fail(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = ("python3", "-m", "http.server", "-b", "127.0.0.1", str(port))
    node = make(service(DB, command, health=Health(kind="http", port=port, every_ms=50)))
    serve(node)
    node.send(fx.SuspendService(service=DB, epoch=EPOCH))
    node.run(800)
    node.send(fx.ResumeService(service=DB, epoch=EPOCH))
    node.run(400)
    assert node.of(ServiceExited) == []


# -- ends ----------------------------------------------------------------------------------------------------------


def test_a_service_that_dies_is_told_and_starts_again_in_its_epoch(make: Make, cgroups: bool) -> None:
    node = make(cgroups=cgroups)
    serve(node)
    os.kill(node.pids(DB)[0], signal.SIGKILL)
    node.wait(lambda: bool(node.of(ServiceExited)))
    assert node.of(ServiceExited)[0].detail == "killed by SIGKILL"
    node.send(node.start())
    node.settle()
    assert isinstance(node.answers()[-1], OpSucceeded)


def test_what_died_while_no_agent_was_there_is_told_to_the_next(make: Make) -> None:
    node = make()
    serve(node)
    os.kill(node.pids(DB)[0], signal.SIGKILL)
    node.wait(lambda: bool(node.of(ServiceExited)))
    node.heard.clear()
    assert [(r.service, r.epoch, r.instance, r.announced) for r in node.units.running()] == [
        (DB, EPOCH, INSTANCE, True)
    ]
    node.units.tell_missed()
    assert [event.service for event in node.of(ServiceExited)] == [DB]


def test_a_failed_unmount_is_not_clean(make: Make) -> None:
    node = make()
    serve(node)
    node.shelf.problem = "busy"
    node.send(node.stop())
    node.settle()
    assert stopped(node) == [False]
    assert node.shelf.discarded == []


def test_a_kill_throws_away_what_the_volume_had_not_written(make: Make) -> None:
    node = make()
    serve(node)
    node.send(node.stop(kill=True))
    assert node.kernel.up == set()
    node.settle()
    assert node.shelf.discarded == [VOLUME]


def test_starting_another_epoch_before_the_old_one_is_stopped_fails(make: Make) -> None:
    node = make()
    serve(node)
    node.send(node.start(epoch=Epoch(2)))
    assert [answer.detail for answer in node.of(OpFailed)] == ["epoch 1 is still running here"]
    stop = fx.StopService(op=OpId(99), service=DB, epoch=Epoch(2), kill=True, ms_max=100)
    node.ops += 1
    node.send(stop)
    assert stopped(node) == [False], "whatever ran here at another epoch is not known to be stopped cleanly"
    assert node.serves()
