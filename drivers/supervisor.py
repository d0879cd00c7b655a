"""The process ``rack supervisor``: what one node's supervisor is put together from, and how it begins and ends.

One loop, no library but msgspec: everything that is not needed for what runs here is imported late or not at all.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from core.errors import InputError
from drivers import log
from drivers.agents import Life
from drivers.config import Config
from drivers.firewall import open_doors
from drivers.ground import needs_root, only_one, own_mounts, survive
from drivers.loop import Loop
from drivers.peers import Peers
from drivers.supervision import Parts, Supervisor
from drivers.volumes import Volumes
from drivers.workload import Workload


def main(config: Config, parts: Parts | None = None) -> int:
    """Supervise this node until SIGTERM; SIGHUP restarts the agent only. ``parts``: if not what the files say.

    Raises: InputError for what a person has to put right: no root, another supervisor, no such interface.
    """
    log.always(node=config.node, process="supervisor")
    needs_root()
    config.tables.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = only_one(config.tables.run_dir)
    if config.tables.workload == "process":
        own_mounts()  # units of systemd live in the machine's namespace and must see what is mounted
    survive()
    open_doors(config)
    loop = Loop()
    supervisor = Supervisor(config, loop, parts if parts is not None else parts_of(config))
    signal.signal(signal.SIGTERM, lambda *_: loop.post(supervisor.end))
    signal.signal(signal.SIGINT, lambda *_: loop.post(supervisor.end))
    signal.signal(signal.SIGHUP, lambda *_: loop.post(supervisor.agents.restart))
    try:
        supervisor.begin()
        loop.run()
    except OSError as error:
        raise InputError([f"{config.file}: the supervisor cannot go on: {error}"]) from error
    finally:
        supervisor.close()
        os.close(lock)
    return 0


def life_of(config: Config) -> Life:
    """Make the command lines of this node's agent."""
    agent = (sys.executable, "-m", "drivers.cli", "agent", "--config", str(config.file))
    return Life(
        agent=(*agent, "--child"),
        spare=(*agent, "--spare"),
        hand_over=(*agent, "--child", "--hand-over"),
        hold=config.tables.run_dir / "hold" / "agent",
        restart_ms=config.tables.restart_ms,
        give_up_ms=config.tables.give_up_ms,
    )


def parts_of(config: Config) -> Parts:
    """Make what this node's supervisor needs. Raises: InputError."""
    tables = config.tables
    parts = Parts(life=life_of(config))
    if tables.workload == "systemd":
        parts.systemd = _systemd(config)
    if tables.ceph is not None:
        parts.volumes = Volumes(tables.ceph, tables.run_dir, config.node)
        parts.volumes.clear_orphans()
    if any(spec.address for spec in config.catalog.specs):
        _add_rights(config, parts)
    try:
        parts.peers = Peers(config)
    except OSError as error:
        raise InputError([f"{config.file}: heartbeat_key: {error}; needed: what 'rack init' made"]) from None
    if tables.watchdog:
        from drivers.watchdog import Watchdog

        try:
            parts.watchdog = Watchdog(Path(tables.watchdog))
        except OSError as error:
            raise InputError([f'{config.file}: watchdog = "{tables.watchdog}": {error}']) from None
    return parts


def _systemd(config: Config) -> Callable[[Loop], Workload]:
    units = [service.process.unit for service in config.catalog.services if service.process.unit]

    def make(loop: Loop) -> Workload:
        from drivers.systemd import Systemd

        systemd = Systemd(loop)
        systemd.sweep(units)
        return systemd

    return make


def _add_rights(config: Config, parts: Parts) -> None:
    from drivers.rights import NotPossible, Rights

    addresses = [spec.address for spec in config.catalog.specs if spec.address]
    try:
        rights = Rights(config.tables.address, addresses)
    except NotPossible as error:
        raise InputError([f"{config.file}: [address]: {error}"]) from None
    parts.rights, parts.failures, parts.release = rights, NotPossible, rights.close
