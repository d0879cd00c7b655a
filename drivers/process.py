"""Services as supervised child processes: started, stopped, frozen and killed with all that they started themselves."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from drivers.cgroups import Cgroup, Group, find_base, sweep
from drivers.children import Born, Child, adopt_orphans, describe, environment
from drivers.loop import Loop
from drivers.workload import Ended, Launch, Task

SIGNALS = {"TERM": 15, "INT": 2, "QUIT": 3}
REST_MS = 1_000
"""What the main process leaves behind when it stops may take this long to end by itself."""
LOOK_MS = 20
"""How often a group is looked at while it empties."""


class Processes:
    """The workload driver ``process``."""

    def __init__(self, loop: Loop, node: str, run_dir: Path, logs: Path, cgroups: bool = True) -> None:
        """Kill what an earlier supervisor of this node left. ``cgroups`` False: do as where none may be made."""
        self._loop = loop
        self._mark = f"{run_dir}:"
        self._base = find_base(node, run_dir) if cgroups else None
        self._logs = logs
        adopt_orphans()
        sweep(self._base, self._mark)

    @property
    def kind(self) -> str:
        """What holds a service together, for people."""
        return f"cgroup {self._base}" if self._base is not None else "process groups"

    def close(self) -> None:
        """Kill what still runs, and leave no folder behind."""
        sweep(self._base, self._mark)
        if self._base is not None:
            with suppress(OSError):  # something dies in it yet
                self._base.rmdir()

    def start(self, launch: Launch, ended: Callable[[Ended], None]) -> Task:
        """Start the service's command."""
        mark = f"{self._mark}{launch.service}"
        try:
            whole: Cgroup | Group = Cgroup(self._base / launch.service) if self._base is not None else Group(mark)
        except OSError as error:
            return self._not_started(launch, error, ended)
        whole.freeze(False)
        born = Born(
            argv=launch.command,
            env=environment(launch.env, mark),
            cwd=launch.cwd,
            log=self._logs / f"{launch.service}.log",
            group=whole.procs,
        )
        try:
            return _Running(self._loop, born, whole, SIGNALS[launch.process.stop_signal], ended)
        except OSError as error:
            whole.remove()
            return self._not_started(launch, error, ended)

    def _not_started(self, launch: Launch, error: OSError, ended: Callable[[Ended], None]) -> Task:
        detail = f"{launch.command[0] if launch.command else 'no command'}: {error.strerror or error}"
        self._loop.after(0, lambda: ended(Ended(detail=detail, killed=False)))
        return _Nothing()


class _Running:
    """The main process of a service and all it started."""

    def __init__(
        self, loop: Loop, born: Born, whole: Cgroup | Group, stop: int, ended: Callable[[Ended], None]
    ) -> None:
        self._loop = loop
        self._whole = whole
        self._stop = stop
        self._ended = ended
        self._ending = False
        self._killed = False
        self._detail = ""
        self._left = 0
        self._child = Child(loop, born, self._main_ended)
        if isinstance(whole, Group):
            whole.leader = self._child.pid

    @property
    def pid(self) -> int:
        """The main process."""
        return self._child.pid

    def end(self) -> None:
        """Send the stop signal to the main process; the others are its own affair."""
        self._ending = True
        self._child.send(self._stop)

    def kill(self) -> None:
        """Kill every process of it."""
        self._ending = self._killed = True
        self._whole.kill()

    def freeze(self) -> None:
        """Stop every process of it."""
        self._whole.freeze(True)

    def thaw(self) -> None:
        """Continue every process of it."""
        self._whole.freeze(False)

    def _main_ended(self, code: int) -> None:
        self._detail = describe(code)
        if not self._ending:
            self._whole.kill()  # a service without its main process is no service
        self._left = REST_MS // LOOK_MS
        self._look()

    def _look(self) -> None:
        if self._whole.empty():
            self._whole.remove()
            self._ended(Ended(detail=self._detail, killed=self._killed))
            return
        self._left -= 1
        if self._left == 0:
            self._killed = True
        if self._left <= 0:
            self._whole.kill()  # also what is in the middle of a fork: again and again until nothing is left
        self._loop.after(LOOK_MS if self._left > -50 else 50 * LOOK_MS, self._look)


class _Nothing:
    """A service that could not be started."""

    def end(self) -> None:
        """Nothing runs."""

    def kill(self) -> None:
        """Nothing runs."""

    def freeze(self) -> None:
        """Nothing runs."""

    def thaw(self) -> None:
        """Nothing runs."""
