"""What an agent shows of itself over HTTP: ``/metrics`` for Prometheus, ``/view`` as JSON; off without an address.

The stepping thread only stores; text is made when somebody asks, in the server's one thread.
"""

import http.server
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from core.effects import AnyEffect
from core.errors import InputError
from core.events import OpFailed, OpSucceeded
from core.ids import NodeId, OpId, SessionId
from core.view import NodeView
from drivers.clock import now_ms

REQUEST_S = 2.0
"""How long a client may take for its request, and to take the answer: there is one thread for all of them."""

QUEUE_MAX = 16
OPS_MAX = 10_000
"""Operations whose duration is awaited; more than this are not measured."""

STEP_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
OP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
REVOCABLE = "Moxie-Revocable"
"""A header beside the view: whether the certificate that this agent shows can be revoked."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"
JSON = "application/json"


class Metrics:
    """The figures of one agent. ``queue``: how many events wait; ``journal_bytes``: how large the journal is.

    All but ``text`` and ``view`` are for the stepping thread. Loads prometheus_client (90 ms, 12 MB), so make it only
    where an address is configured.
    """

    def __init__(
        self,
        node: NodeId,
        version: str,
        queue: Callable[[], int] = lambda: 0,
        journal_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        from prometheus_client import CollectorRegistry, Gauge, Histogram

        self._registry = own = CollectorRegistry()
        Gauge("moxie_agent", "The agent's version.", ("node", "version"), registry=own).labels(node, version).set(1)
        Gauge("moxie_inbox_events", "Events that wait to be handled.", registry=own).set_function(queue)
        Gauge("moxie_journal_bytes", "Size of the journal's segment.", registry=own).set_function(journal_bytes)
        self._step_s = Histogram("moxie_step_seconds", "Steps and their duration.", buckets=STEP_BUCKETS, registry=own)
        kinds = ("effect", "outcome")
        self._op_s = Histogram("moxie_op_seconds", "Duration of operations.", kinds, buckets=OP_BUCKETS, registry=own)
        self._begun: dict[OpId, tuple[str, int]] = {}
        self._view: NodeView | None = None
        self._shown = b""
        self._session = SessionId(0)
        self._since_ms = 0
        self._registry.register(_Views(self._state))

    def stepped(self, seconds: float) -> None:
        """Count a step of this duration."""
        self._step_s.observe(seconds)

    def begun(self, effect: AnyEffect) -> None:
        """Start measuring an effect that will be answered; others are left out."""
        op = getattr(effect, "op", None)
        if op is not None and len(self._begun) < OPS_MAX:
            self._begun[op] = (type(effect).__name__, now_ms())

    def ended(self, event: OpSucceeded | OpFailed) -> None:
        """Take the duration of an operation that was answered."""
        name, at_ms = self._begun.pop(event.op, ("", 0))
        if name:
            outcome = event.reason if isinstance(event, OpFailed) else "ok"
            self._op_s.labels(name, outcome).observe((now_ms() - at_ms) / 1_000)

    def show(self, view: NodeView) -> None:
        """Take the machine's newest view."""
        if view.session != self._session:
            self._session, self._since_ms = view.session, now_ms()
        self._view = view

    def text(self) -> bytes:
        """Everything in the text format of Prometheus; from any thread."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def view(self) -> bytes | None:
        """The newest view as JSON; None before the first; from any thread."""
        view = self._view
        return msgspec.json.encode(view) if view is not None else None

    def _state(self) -> tuple[NodeView | None, int]:
        return self._view, self._since_ms


class _Views:
    """Gauges made from the newest view at the moment somebody asks: nothing stale remains of what is gone."""

    def __init__(self, state: Callable[[], tuple[NodeView | None, int]]) -> None:
        self._state = state

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        view, since_ms = self._state()
        if view is None:
            return
        now = now_ms()
        session_s = max(now - since_ms, 0) / 1_000 if view.session else 0.0
        for name, text, value in (
            ("joined", "Whether the node is a member.", float(view.joined)),
            ("members", "Members that the node knows.", float(view.members)),
            ("brake", "Whether power fencing is paused.", float(view.brake)),
            ("wards", "Nodes that it is the steward of.", float(len(view.wards))),
            ("pending", "What it waits for.", float(len(view.pending))),
            ("session_age_seconds", "Age of its session.", session_s),
            ("view_age_seconds", "Age of what is shown.", max(now - view.at_ms, 0) / 1_000),
        ):
            yield GaugeMetricFamily(f"moxie_{name}", text, value=value)
        states = GaugeMetricFamily("moxie_services", "Services by state.", labels=("state",))
        count: dict[str, int] = {}
        for service in view.services:
            count[service.state] = count.get(service.state, 0) + 1
        for state, number in sorted(count.items()):
            states.add_metric((state,), number)
        yield states
        epochs = GaugeMetricFamily("moxie_epoch", "Epoch of a lease.", labels=("service",))
        serving = GaugeMetricFamily("moxie_serving", "Whether it serves.", labels=("service",))
        ages = GaugeMetricFamily("moxie_evidence_age_seconds", "Age of evidence.", labels=("service", "kind"))
        for service in view.services:
            serving.add_metric((service.name,), float(service.serving))
            if service.epoch:
                epochs.add_metric((service.name,), service.epoch)
            for kind, asked_ms in (
                ("coordination", service.coordination_asked_ms),
                ("storage", service.storage_asked_ms),
            ):
                if asked_ms >= 0:
                    ages.add_metric((service.name, kind), max(now - asked_ms, 0) / 1_000)
        yield from (serving, epochs, ages)


class MetricsServer:
    """Answers at ``address`` ("ADDRESS:PORT", or "[ADDRESS]:PORT") until closed; ``port`` is the one in use."""

    def __init__(self, metrics: Metrics, address: str, revocable: Callable[[], bool] = lambda: False) -> None:
        """``revocable``: see ``REVOCABLE``. Raises: InputError if the address is none, or cannot be listened at."""
        host, port = split(address)
        try:
            self._server = _Server((host, port), metrics, revocable)
        except OSError as error:
            why = f'metrics "{address}": {error.strerror or error}; another ADDRESS:PORT of this node, or "" for none'
            raise InputError([why]) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.5,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(metrics: Metrics, address: str) -> MetricsServer | None:
    """Begin to answer; None for "". Raises: InputError."""
    return MetricsServer(metrics, address) if address else None


def split(address: str) -> tuple[str, int]:
    """Split "ADDRESS:PORT". Raises: InputError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise InputError([f'metrics "{address}"; allowed: "ADDRESS:PORT" such as "127.0.0.1:9464", or "" for none'])
    return host, int(port)


class _Server(http.server.HTTPServer):
    """One thread, one client at a time, each with little time."""

    request_queue_size = QUEUE_MAX

    def __init__(self, address: tuple[str, int], metrics: Metrics, revocable: Callable[[], bool]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.metrics = metrics
        self.revocable = revocable
        super().__init__(address, _Answer)

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service for this host's name, which may take long and serves nobody here.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Answer(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: _Server
    timeout = REQUEST_S

    def do_GET(self) -> None:
        metrics = self.server.metrics
        match self.path.partition("?")[0]:
            case "/metrics":
                self._send(HTTPStatus.OK, TEXT, metrics.text())
            case "/view":
                view = metrics.view()
                if view is None:
                    self._send(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"the machine has not stepped yet\n")
                else:
                    self._send(HTTPStatus.OK, JSON, view)
            case _:
                self._send(HTTPStatus.NOT_FOUND, TEXT, b"there are /metrics and /view\n")

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header(REVOCABLE, "yes" if self.server.revocable() else "no")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name its base gives it
        """Say nothing: who looks is of no interest, and the log is the agent's."""
