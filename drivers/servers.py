"""Looking at all ZooKeeper servers of a rack at once, without a session, so also without a quorum."""

import re
import ssl
from concurrent.futures import ThreadPoolExecutor

from core.errors import InputError
from core.ids import NodeId
from drivers.config import Config, Machine
from drivers.rack_state import Server
from drivers.zookeeper_server import Status, context, status

THREADS_MAX = 16
_ERRNO = re.compile(r"^\[Errno \d+\] ")


def servers(config: Config) -> dict[NodeId, Server]:
    """Ask the server of every node, whether it has one or not.

    Raises: InputError if our own certificate cannot be used.
    """
    tls, port = own_context(config), config.tables.zookeeper.client_port

    def ask(machine: Machine) -> Server:
        return _seen(status(machine.address, port, tls))

    with ThreadPoolExecutor(min(THREADS_MAX, len(config.machines)), "servers") as pool:
        return dict(zip(config.machines, pool.map(ask, config.machines.values()), strict=True))


def own_context(config: Config) -> ssl.SSLContext | None:
    """What we show to servers.

    Raises: InputError if a file is missing, or is no key or certificate.
    """
    tls = config.tables.tls
    try:
        return context(tls)
    except (OSError, ValueError) as error:
        assert tls is not None
        reason = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
        files = ", ".join(map(str, (tls.ca, tls.cert, tls.key)))
        raise InputError(
            [f"{config.file}: [tls] {files}: cannot be used ({reason}); needed: what 'rack init' made"]
        ) from None


def _seen(said: Status) -> Server:
    if not said.mode:
        return Server(error=_ERRNO.sub("", said.detail).lower() or "no answer")
    if not said.serves:
        return Server(error=f"it runs and does not serve: {said.detail or 'no quorum'}")
    mode = "leader" if said.mode == "standalone" else said.mode
    return Server(mode=mode, version=said.version, zxid=f"{said.zxid:#x}", connections=said.connections)
