"""Errands of the coordination port that take their time: starting a server, ending another's session, reconfiguring.

Each runs in a thread of a small crew; what came of it is told in the port's loop.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from core import effects as fx
from core.events import Done, OpFailed, OpSucceeded
from core.ids import NodeId, OpId
from core.ports import Emit
from drivers import zookeeper_jute as jute
from drivers import zookeeper_server as server
from drivers.clock import now_ms
from drivers.config import Config
from drivers.loop import Crew, Loop
from drivers.zookeeper import Brief
from drivers.zookeeper_codec import LOST, OK, Failure, failure, member_line, server_number
from drivers.zookeeper_session import Credential

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
CREW = 4
LOOK_MS = 150
"""How often a starting server is asked whether it serves."""
START_MS_MAX = 120_000
"""A server that does not serve by then has failed to start."""
FILES_MS = 5_000
"""How often it is looked whether the files of a server that is to run are still there."""


class NodeServices(Protocol):
    """What outlives the agent and is the supervisor's: this node's server process, and its ears."""

    def run_server(self, argv: tuple[str, ...], log: str) -> None:
        """Run the server with this command and keep it running; one that runs already is left alone."""
        ...

    def end_server(self, op: OpId, done: Callable[[], None]) -> None:
        """Stop the server and forget its command; ``done`` may be called from any thread."""
        ...

    def listen(self, nodes: tuple[NodeId, ...], emit: Emit) -> None:
        """Listen to exactly these nodes' heartbeats from now on."""
        ...


class Errands:
    """The errands of one agent. ``quorum``: whether this agent knows of one now; ``voters``: the last it knew of."""

    def __init__(
        self,
        config: Config,
        services: NodeServices,
        loop: Loop,
        quorum: Callable[[], bool],
        voters: Callable[[], tuple[NodeId, ...]] = tuple,
    ) -> None:
        self.services = services
        self._config = config
        self._loop = loop
        self._quorum = quorum
        self._voters = voters
        self._crew = Crew(loop, "zookeeper-errand", CREW)
        self._starting: OpId | None = None
        self._runs = False
        loop.after(FILES_MS, self._keep_files)

    @property
    def busy(self) -> bool:
        """Whether an errand is under way."""
        return self._crew.busy > 0

    # -- this node's server --------------------------------------------------------------------------------------------

    def start_server(self, effect: fx.StartServer, emit: Emit) -> None:
        """Prepare the files, run the server, and answer when it serves; or runs, while there is no quorum."""
        self._starting = effect.op
        end_ms = now_ms() + START_MS_MAX

        def prepared(problem: OpFailed | None) -> None:
            if problem is not None:
                emit(problem)
                return
            self._runs = True
            self.services.run_server(server.command(self._config), str(server.log_file(self._config)))
            self._look(effect.op, end_ms, emit)

        self._do(effect.op, lambda: self._prepare(effect), prepared, emit)

    def stop_server(self, effect: fx.StopServer, emit: Emit) -> None:
        """Stop the server and put its files aside."""
        self._starting, self._runs = None, False

        def put_aside() -> str:
            try:
                server.retire(self._config)
            except OSError as error:
                return str(error)
            return ""

        def answer(error: str) -> None:
            emit(OpFailed(at_ms=now_ms(), op=effect.op, reason="failed", detail=error) if error else _done(effect.op))

        def ended() -> None:
            self._loop.post(lambda: self._do(effect.op, put_aside, answer, emit))

        self.services.end_server(effect.op, ended)

    def _prepare(self, effect: fx.StartServer) -> OpFailed | None:
        config, why = self._config, ""
        if not effect.members and not (server.folder(config) / "zoo.cfg").exists():
            if not server.is_first(config):
                why = "no members to join, and the rack's ensemble does not begin here"
            elif server.another_answers(config):
                why = "another node runs a server already: a second ensemble would be a second rack"
        if why:
            return OpFailed(at_ms=now_ms(), op=effect.op, reason="refused", detail=why)
        try:
            server.prepare(config, effect.members, begin=not effect.members and server.is_first(config))
        except OSError as error:
            return OpFailed(at_ms=now_ms(), op=effect.op, reason="failed", detail=str(error))
        return None

    def _keep_files(self) -> None:
        """Write the files of the server again if they are gone: it cannot start without, and nobody else looks."""
        self._loop.after(FILES_MS, self._keep_files)
        voters = self._voters()
        if not self._runs or not voters or (server.folder(self._config) / "zoo.cfg").exists():
            return
        _LOG.error("the files of this node's ZooKeeper server are gone and are written again")

        def write() -> str:
            try:
                server.prepare(self._config, voters)
            except OSError as error:
                return str(error)
            return ""

        self._crew.do(write, lambda error: _LOG.error("they cannot be written: %s", error) if error else None)

    def _look(self, op: OpId, end_ms: int, emit: Emit) -> None:
        def seen(status: server.Status) -> None:
            if status.serves or (status.mode == "waiting" and not self._quorum()):
                emit(_done(op))
            elif self._starting != op:
                emit(OpFailed(at_ms=now_ms(), op=op, reason="failed", detail="stopped, or started again"))
            elif now_ms() >= end_ms:
                detail = status.detail or "it has not caught up with its leader"
                emit(OpFailed(at_ms=now_ms(), op=op, reason="failed", detail=f"the server does not serve: {detail}"))
            else:
                self._loop.after(LOOK_MS, lambda: self._look(op, end_ms, emit))

        self._do(op, lambda: self._own_status(), seen, emit)

    def _own_status(self) -> server.Status:
        try:
            return server.own_status(self._config)
        except OSError as error:  # of the TLS files: a server's own are translated
            return server.Status(detail=str(error))

    # -- other sessions, and the ensemble ------------------------------------------------------------------------------

    def end_session(
        self, credential: Credential, endpoints: Sequence[str], ms_max: int, then: Callable[[Failure | None], None]
    ) -> None:
        """End a session by its credential; one that is over already is fine.

        An owner that lives fights for its session: whoever connects last has it, so this may need another try.
        """
        end_ms = now_ms() + ms_max

        def work() -> Failure | None:
            while (left_ms := end_ms - now_ms()) > 0:
                try:
                    with Brief(endpoints, self._config.tables.tls, left_ms, credential) as brief:
                        if brief.session != credential.session or brief.ask(jute.close()) == OK:
                            return None
                except OSError as error:  # also TimeoutError and ssl.SSLError
                    return Failure(reason="unanswered", detail=str(error))
            return failure(LOST)

        self._run(work, then)

    def reconfigure(
        self, effect: fx.Reconfigure, endpoints: Sequence[str], then: Callable[[Failure | None], None]
    ) -> None:
        """Change the voters, if the configuration is current and the joiners serve."""
        config = self._config
        leaving = [server_number(node, config.machines) for node in effect.leaving]
        unknown = [node for node in effect.joining if node not in config.machines]
        unknown += [node for node, number in zip(effect.leaving, leaving, strict=True) if number is None]
        if unknown:
            then(Failure(reason="refused", detail=f"not in the inventory: {', '.join(unknown)}", retryable=False))
            return
        table, tls = config.tables.zookeeper, config.tables.tls
        lines = [member_line(config.machines[node], table, tls is not None) for node in effect.joining]

        def work() -> Failure | None:
            try:
                for node in effect.joining:  # a server that does not exist would be taken
                    address = config.machines[node].address
                    if not server.status(address, table.client_port, server.context(tls)).serves:
                        detail = f"the server on {node} is not in sync or does not answer"
                        return Failure(reason="unavailable", detail=detail)
                with Brief(endpoints, tls, effect.ms_max) as brief:
                    error = brief.ask(jute.authenticate("digest", f"super:{server.super_password(config)}"))
                    if error == OK:
                        numbers = ",".join(str(number) for number in leaving)
                        error = brief.ask(jute.reconfigure(",".join(lines), numbers, effect.config))
            except TimeoutError as error_:
                return Failure(reason="unavailable", detail=str(error_))
            except OSError as error_:
                return Failure(reason="failed", detail=str(error_))
            return failure(error) if error else None

        self._run(work, then)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[], Failure | None], then: Callable[[Failure | None], None]) -> None:
        if not self._crew.do(work, then):
            then(Failure(reason="unavailable", detail="too many errands are under way"))

    def _do(self, op: OpId, work: Callable[[], T], then: Callable[[T], None], emit: Emit) -> None:
        if not self._crew.do(work, then):
            detail = "too many errands are under way"
            emit(OpFailed(at_ms=now_ms(), op=op, reason="unavailable", detail=detail))


def _done(op: OpId) -> OpSucceeded:
    return OpSucceeded(at_ms=now_ms(), op=op, result=Done())
