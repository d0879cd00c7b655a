"""A small Ceph cluster with every daemon at one address, started here and stopped by pid: for tests and to try out."""

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from drivers.ceph_cluster import MGR, CephBroken, CephCluster, CephPlace, CephSettings


class LocalCluster:
    """A cluster with every daemon at one address, for tests and for trying out."""

    def __init__(
        self,
        root: Path,
        settings: CephSettings,
        osds: int = 3,
        address: str = "127.0.0.1",
        launch: Sequence[str] = (),
    ) -> None:
        """``launch`` goes before every daemon's command, to run it in a network namespace, say."""
        places = [CephPlace(name=f"h{number}", address=address) for number in range(osds)]
        self.cluster = CephCluster(root, places, settings)
        self._launch = tuple(launch)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def up(self, ms_max: int = 60_000) -> None:
        """Make it, start it, wait until it is ready. Raises: CephBroken; nothing runs then."""
        self.cluster.prepare()
        try:
            for index, place in enumerate(self.cluster.nodes):
                for argv in self.cluster.daemon_commands(place.name):
                    self.start(f"mon.{place.name}" if argv[0] == "ceph-mon" else f"osd.{index}", argv)
            self.start(MGR, self.cluster.mgr_command())
            if pending := self.cluster.wait_ready(ms_max, self._launch):
                raise CephBroken(f"not ready within {ms_max} ms: {pending}; see {self.cluster.root}")
        except BaseException:
            self.down(wipe=False)
            raise

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start one daemon; the mgr, the monitors and the OSDs have their usual names."""
        with (self.cluster.root / f"{name}.out").open("ab") as out:
            command = ("setpriv", "--pdeathsig", "KILL", *self._launch, *argv)
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a daemon a signal."""
        self.processes[name].send_signal(number)

    def down(self, wipe: bool = True) -> None:
        """Stop every daemon, and remove the files."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        if wipe:
            shutil.rmtree(self.cluster.root, ignore_errors=True)
