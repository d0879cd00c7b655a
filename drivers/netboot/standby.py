"""``rack netboot`` on a node that boots nobody: it stands by, so that the service counts as running here as elsewhere.

An everywhere-service that ended at once would never let its node be called well.
"""

import asyncio
import signal

from core.errors import InputError
from drivers import log
from drivers.clock import now_ms, seconds
from drivers.config import Config
from drivers.netboot.http import HttpServer, Reply, Request, logs_access
from drivers.netboot.pace import Bandwidth, Pace, Streams

LOOPBACK, PORT = "127.0.0.1", 8080
"""Where the catalog has the supervisor ask whether the service is healthy."""


async def stand_by(config: Config) -> int:
    """Answer who asks whether the service is healthy, until told to stop. Raises: InputError if the port is taken."""
    pace = Pace(Bandwidth(1), Streams(1), lambda: seconds() * 1_000)
    server = HttpServer(_answer, pace, lambda address: address == LOOPBACK, logs_access(now_ms))
    try:
        await server.start(LOOPBACK, PORT)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError([f"port {PORT} at {LOOPBACK}: cannot listen ({reason}); needed: a free port"]) from None
    log.event("netboot_stands_by", why=f"{config.file} has no [netboot]: this node boots nobody")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await server.stop()
    return 0


def _answer(request: Request) -> Reply:
    return Reply(text="ok, this node boots nobody\n") if request.path == "/health" else Reply(status=404)
