"""What an agent shows over HTTP: figures for Prometheus, its view as JSON, and nothing where no address is given."""

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core import effects as fx
from core.errors import InputError
from core.events import Done, OpFailed, OpSucceeded
from core.ids import Epoch, NodeId, OpId, ServiceName, SessionId
from core.records import Lifecycle
from core.view import NodeView, ServiceView
from drivers import metrics as module
from drivers.clock import now_ms
from drivers.metrics import Metrics, MetricsServer, serve

N1, DB = NodeId("n1"), ServiceName("mariadb")


def view(session: int = 7, **keys: object) -> NodeView:
    service = ServiceView(
        name=DB, state="serving", epoch=Epoch(3), serving=True, coordination_asked_ms=now_ms() - 2_000
    )
    made = NodeView(
        node=N1,
        at_ms=now_ms(),
        session=SessionId(session),
        joined=True,
        lifecycle=Lifecycle.JOINED,
        members=5,
        brake=False,
        services=(service,),
        wards=(NodeId("n2"),),
        pending=("n2 is lost",),
    )
    return msgspec.structs.replace(made, **keys)


def figures(metrics: Metrics) -> dict[str, float]:
    """All samples by name and labels, as a Prometheus server reads them."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(N1, "0.1.0", queue=lambda: 4, journal_bytes=lambda: 1_000)


@pytest.fixture
def server(metrics: Metrics) -> Iterator[MetricsServer]:
    made = serve(metrics, "127.0.0.1:0")
    assert made is not None
    yield made
    made.close()


def ask(server: MetricsServer, path: str) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Content-Type", "")
    finally:
        connection.close()


def test_the_view_becomes_gauges(metrics: Metrics) -> None:
    metrics.show(view())
    found = figures(metrics)
    assert found["moxie_members"] == 5
    assert found["moxie_joined"] == 1
    assert found["moxie_pending"] == 1
    assert found["moxie_services{state=serving}"] == 1
    assert found["moxie_epoch{service=mariadb}"] == 3
    assert 2 <= found["moxie_evidence_age_seconds{kind=coordination,service=mariadb}"] < 60
    assert "moxie_evidence_age_seconds{kind=storage,service=mariadb}" not in found
    assert found["moxie_inbox_events"] == 4
    assert found["moxie_journal_bytes"] == 1_000
    assert found["moxie_agent{node=n1,version=0.1.0}"] == 1


def test_what_is_gone_from_the_view_is_gone_from_the_figures(metrics: Metrics) -> None:
    metrics.show(view())
    metrics.show(view(services=()))
    assert not any("mariadb" in name for name in figures(metrics))


def test_the_age_of_a_session_begins_anew_with_another(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    now = now_ms()
    monkeypatch.setattr(module, "now_ms", lambda: now)
    metrics.show(view(session=7))
    now += 5_000
    metrics.show(view(session=7))
    assert figures(metrics)["moxie_session_age_seconds"] == 5
    metrics.show(view(session=8))
    assert figures(metrics)["moxie_session_age_seconds"] == 0
    metrics.show(view(session=0))
    now += 5_000
    assert figures(metrics)["moxie_session_age_seconds"] == 0


def test_steps_and_operations_are_counted_by_their_outcome(metrics: Metrics) -> None:
    metrics.stepped(0.003)
    for op in (1, 2):
        metrics.begun(fx.ReadPower(op=OpId(op), node=N1, ms_max=10))
    metrics.begun(fx.Note(kind="joined"))
    metrics.ended(OpSucceeded(at_ms=0, op=OpId(1), result=Done()))
    metrics.ended(OpFailed(at_ms=0, op=OpId(2), reason="unanswered"))
    metrics.ended(OpSucceeded(at_ms=0, op=OpId(99), result=Done()))
    found = figures(metrics)
    assert found["moxie_step_seconds_count"] == 1
    assert found["moxie_step_seconds_bucket{le=0.002}"] == 0
    assert found["moxie_step_seconds_bucket{le=0.005}"] == 1
    assert found["moxie_op_seconds_count{effect=ReadPower,outcome=ok}"] == 1
    assert found["moxie_op_seconds_count{effect=ReadPower,outcome=unanswered}"] == 1


def test_operations_that_are_never_answered_do_not_pile_up(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPS_MAX", 2)
    for op in (1, 2, 3):
        metrics.begun(fx.ReadPower(op=OpId(op), node=N1, ms_max=10))
        metrics.ended(OpSucceeded(at_ms=0, op=OpId(3), result=Done()))
    assert not any("moxie_op_seconds_count" in name for name in figures(metrics))


def test_both_pages_are_served_and_others_are_not(metrics: Metrics, server: MetricsServer) -> None:
    status, body, _ = ask(server, "/view")
    assert (status, body) == (503, b"the machine has not stepped yet\n")
    shown = view()
    metrics.show(shown)
    status, body, kind = ask(server, "/view")
    assert (status, kind) == (200, "application/json")
    assert msgspec.json.decode(body, type=NodeView) == shown
    status, body, kind = ask(server, "/metrics?x=1")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert b"moxie_members 5.0" in body
    assert ask(server, "/etc/passwd")[0] == 404


def test_a_client_that_sends_nothing_keeps_nobody_out_for_long(
    metrics: Metrics, server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Answer, "timeout", 0.1)
    metrics.show(view())
    with socket.create_connection(("127.0.0.1", server.port)):
        assert ask(server, "/view")[0] == 200


def test_no_address_is_no_server(metrics: Metrics) -> None:
    assert serve(metrics, "") is None


@pytest.mark.parametrize("address", ["9464", ":9464", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_said(metrics: Metrics, address: str) -> None:
    with pytest.raises(InputError, match="allowed"):
        serve(metrics, address)


def test_a_port_in_use_is_said_with_the_remedy(metrics: Metrics, server: MetricsServer) -> None:
    with pytest.raises(InputError, match=r"in use; another ADDRESS:PORT"):
        serve(metrics, f"127.0.0.1:{server.port}")


def test_an_agent_without_metrics_does_not_load_the_library() -> None:
    code = "import sys, drivers.metrics; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
