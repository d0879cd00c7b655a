"""A dnsmasq process that is kept running: started again when it dies or is to do something else."""

import asyncio
import os
import select
import signal
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drivers.children import describe, prepare
from drivers.log import event as log

RESTART_S, RESTART_S_MAX = 0.2, 5.0
STABLE_S = 10.0
END_S = 2.0
LAST_MAX = 5
LINE_MAX = 1 << 16


class Daemon:
    """One dnsmasq. ``heard`` is told each line that it logs.

    ``problem`` is empty while it runs; ``starts`` counts how often it was started.
    """

    def __init__(self, name: str, program: str, config: Path, heard: Callable[[str], None]) -> None:
        self._name = name
        self._program = program
        self._config = config
        self._heard = heard
        self._text = ""
        self._process: asyncio.subprocess.Process | None = None
        self._last: deque[str] = deque(maxlen=LAST_MAX)
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._running = asyncio.Event()
        self.problem = "not started"
        self.starts = 0

    @property
    def pid(self) -> int:
        """Its process; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def configure(self, text: str) -> None:
        """Run with this configuration from now on. Nothing happens if it does so already."""
        if text == self._text:
            return
        self._text = text
        self._changed.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    def end_orphans(self) -> None:
        """Kill what an earlier service left running with this very configuration.

        The kernel forgets who is to be killed with its parent when a process gives up being root, as dnsmasq does.
        """
        for pid in _running_with(f"--conf-file={self._config}"):
            log("dnsmasq_left_over", process_name=self._name, pid=pid)
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], END_S)
                finally:
                    os.close(handle)

    async def wait_running(self, seconds: float) -> bool:
        """Wait for its first start to last."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._running.wait()
        return self._running.is_set()

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep(self) -> None:
        pause_s = RESTART_S
        while True:
            self._changed.clear()
            begun = asyncio.get_running_loop().time()
            try:
                ended = await self._run()
            except OSError as error:
                ended = str(error)
            if self._changed.is_set() or not ended:
                continue  # it was ended on purpose
            self.problem = f"{self._name}: {ended}; {' / '.join(self._last)[-300:]}"
            log("dnsmasq_ended", process_name=self._name, detail=ended, said=tuple(self._last))
            if asyncio.get_running_loop().time() - begun > STABLE_S:
                pause_s = RESTART_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()
            pause_s = min(2 * pause_s, RESTART_S_MAX)

    async def _run(self) -> str:
        """Run it until it ends, and say how; "" if that was our wish."""
        _write(self._config, self._text)
        parent = os.getpid()
        process = self._process = await asyncio.create_subprocess_exec(
            self._program,
            "--keep-in-foreground",
            f"--conf-file={self._config}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_MAX,
            preexec_fn=lambda: prepare(parent),  # only system calls: safe beside other threads
        )
        self.starts += 1
        listening = asyncio.create_task(self._listen(process))
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({listening, changed}, return_when=asyncio.FIRST_COMPLETED)
            if changed.done():
                return ""
            return describe(await process.wait())
        finally:
            changed.cancel()
            await _end(process)
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
            self._process = None

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than any that it has
                continue
            if not line:
                return
            text = line.decode(errors="replace").strip()
            self._last.append(text)
            if "started, version" in text:
                self.problem = ""
                self._running.set()
            self._heard(text)


def _running_with(word: str) -> list[int]:
    """The processes that have this word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="ascii")
    new.replace(path)
