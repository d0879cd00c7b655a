"""The agent of one node: one machine in its loop, put together from the drivers, and how it begins and ends.

Modes: ``normal``; ``hand_over``: give everything up cleanly, then end, on behalf of an agent that cannot come back;
``spare``: load everything, wait for a line on standard input, then hand over. Services outlive the agent in each.
"""

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Literal

from core import effects as fx
from core import invariants
from core.errors import InputError, InvariantViolation
from core.events import AnyEvent, OpFailed, OpSucceeded, Started
from core.machine import Machine
from drivers import log
from drivers.agent_ports import AgentPorts
from drivers.clock import now_ms
from drivers.config import Config, load_config
from drivers.host import Brain, End, Host, Surroundings
from drivers.journal_file import JournalBroken
from drivers.journal_place import Journal, clear_reason, give_reason, open_journal, reason_in
from drivers.metrics import Metrics, MetricsServer
from drivers.roster import Roster
from drivers.supervised import VERSION, Supervised, SupervisorGone
from drivers.view_file import ViewFile
from drivers.wire import Welcome
from drivers.zookeeper_server import configured, shows_revocable

Mode = Literal["normal", "spare", "hand_over"]

DONE, FAILED, HAND_OVER = 0, 1, 75
"""Exit codes. ``DONE``: as it was told, or to be restarted with its new configuration. ``FAILED``: start it again.
``HAND_OVER``: it must not go on (a full disk, a bug of ours): start a substitute in mode ``hand_over``."""


def run(path: Path, *, child: bool = False, spare: bool = False, hand_over: bool = False) -> int:
    """Run the agent that ``rack agent`` asks for; its exit code.

    ``child``: the supervisor started it, and kills it when it ends itself. Raises: InputError with every problem of
    the files.
    """
    config = load_config(path)
    if not (child or spare or hand_over):
        log.event("started_by_hand", node=config.node)  # the supervisor will start one of its own when this one ends
    return main(config, "spare" if spare else "hand_over" if hand_over else "normal")


def main(config: Config, mode: Mode = "normal") -> int:
    """Run an agent of this node until it is to end; its exit code."""
    log.always(node=config.node, process="agent" if mode == "normal" else mode)
    if mode == "spare":
        load_all(config)
        if not sys.stdin.readline():
            return DONE  # nobody will ever ask
    supervised = Supervised(config.tables.run_dir)
    try:
        welcome = supervised.connect()
        return Agent(config, supervised, welcome, hand_over=mode != "normal").run()
    except SupervisorGone as error:
        log.event("agent_failed", error=str(error))
        return FAILED
    finally:
        supervised.close()


def load_all(config: Config) -> None:
    """Load everything that a hand-over may need, while the files on disk are still good."""
    AgentPorts.load(config)
    "x".encode("idna")  # names are resolved with a codec that is loaded at its first use
    gc.collect()
    gc.freeze()


class Agent:
    """One agent process, from the supervisor's welcome to its exit code."""

    def __init__(self, config: Config, supervised: Supervised, welcome: Welcome, hand_over: bool) -> None:
        self._config = config
        self._supervised = supervised
        self._welcome = welcome
        self._hand_over = hand_over
        self._opening = config.opening
        self._metrics: Metrics | None = None
        self._roster: Roster | None = None
        run_dir = config.tables.run_dir
        self._view = ViewFile(run_dir, {"pid": os.getpid(), "version": VERSION, "incarnation": welcome.incarnation})

    def run(self) -> int:
        """Do all of an agent's work."""
        tables, at_ms = self._config.tables, now_ms()
        log.event("agent_started", incarnation=self._welcome.incarnation, hand_over=self._hand_over, pid=os.getpid())
        try:
            journal = open_journal(tables, self._opening, self._welcome.incarnation, at_ms, spill=self._hand_over)
        except JournalBroken as broken:
            self._view.take(Machine(self._opening).view())
            return self._step_down(str(broken))
        self._tell_reason()
        try:
            return self._live(journal)
        except (InvariantViolation, JournalBroken) as error:
            return self._step_down(str(error))
        finally:
            journal.close()
            self._view.write()

    def _live(self, journal: Journal) -> int:
        config = self._config
        around = Surroundings(record=journal, on_note=self._note, on_step=self._check, on_look=self._look)
        host = Host(self._opening, self._welcome.incarnation, Machine(self._opening), around)
        server = self._serve_metrics(host, journal, around)
        ports = AgentPorts(config, self._supervised, self._welcome.boot_id, on_bug=lambda: host.stop("broken"))
        self._roster = ports.roster
        self._supervised.start(host.emit, gone=lambda: host.stop("orphaned"))
        obey_signals(config.file, host)
        started = Started(
            at_ms=now_ms(),
            boot_id=self._welcome.boot_id,
            session=ports.saved_session,
            running=self._welcome.running,
            server=self._welcome.server or configured(config),
            hand_over=self._hand_over,
            image=ports.image,
        )
        ports.begin(host.emit)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: collecting garbage need not look at it again
        try:
            end = host.run(ports.of(host), started)
        finally:
            ports.close()
            if server is not None:
                server.close()
        return self._ended(end)

    def _serve_metrics(self, host: Host, journal: Journal, around: Surroundings) -> MetricsServer | None:
        """Show figures over HTTP where the node's file says so; an address that cannot be used stops nobody.

        A substitute shows none: it is soon gone, and their library may not be there any more.
        """
        address = self._config.tables.metrics
        if not address or self._hand_over:
            return None
        metrics = Metrics(self._config.node, VERSION, lambda: host.waiting, lambda: journal.size)
        try:
            server = MetricsServer(metrics, address, lambda: shows_revocable(self._config))
        except InputError as error:
            log.event("no_metrics", problems=tuple(error.problems))
            self._view.problem("metrics", error.problems[0])
            return None
        self._metrics, around.on_taken = metrics, self._taken
        return server

    def _ended(self, end: End) -> int:
        log.event("agent_ends", why=end)
        match end:
            case "handed_over":
                self._supervised.leaving()
                return DONE
            case "stopped" | "reload":
                return DONE
            case "orphaned" | "broken":
                return FAILED

    # -- what the host tells ----------------------------------------------------------------------------------------

    def _note(self, note: fx.Note) -> None:
        self._view.note(note)
        service, node, detail = note.service, note.node, note.detail
        log.event("note", note=note.kind, service=service, about=node, epoch=note.epoch, detail=detail)

    def _check(self, machine: Brain) -> None:
        """Show the machine's view, and judge it. Raises: InvariantViolation."""
        view = machine.view()
        shown = self._view.take(view)
        if self._metrics is not None:
            self._metrics.show(shown)
        invariants.check(view, self._opening)

    def _taken(self, event: AnyEvent, effects: tuple[fx.AnyEffect, ...], took_s: float) -> None:
        metrics = self._metrics
        if metrics is not None:
            metrics.stepped(took_s)
            if isinstance(event, OpSucceeded | OpFailed):
                metrics.ended(event)
            for effect in effects:
                metrics.begun(effect)

    def _look(self) -> None:
        self._supervised.alive()
        if self._roster is not None:
            self._view.problem("machines", "; ".join(self._roster.problems))
        self._view.look()

    # -- stepping down ----------------------------------------------------------------------------------------------

    def _step_down(self, why: str) -> int:
        """Say why this agent must not go on; its substitute gives everything up and says it too."""
        log.event("agent_steps_down", why=why)
        self._view.problem("stepped_down", f"the agent steps down: {why}")
        self._view.write()
        give_reason(self._config.tables.run_dir, why)
        return HAND_OVER

    def _tell_reason(self) -> None:
        """A substitute repeats why it is there; an agent that could start has nothing to repeat."""
        run_dir = self._config.tables.run_dir
        if not self._hand_over:
            clear_reason(run_dir)
        elif reason := reason_in(run_dir):
            log.event("hands_over", why=reason)
            self._view.problem("stepped_down", f"the agent stepped down: {reason}")


def obey_signals(file: Path, host: Host) -> None:
    """SIGTERM, SIGINT: end, services live on. SIGHUP: end to be restarted, if the configuration ``file`` is good."""
    signal.signal(signal.SIGTERM, lambda *_: host.stop("stopped"))
    signal.signal(signal.SIGINT, lambda *_: host.stop("stopped"))

    def reload() -> None:
        try:
            load_config(file)
        except InputError as error:
            log.event("configuration_refused", file=str(file), problems=tuple(error.problems))
        else:
            host.stop("reload")

    signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, name="reload", daemon=True).start())
