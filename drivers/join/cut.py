"""What a retired node still has open to this node's ZooKeeper server is closed: a list only keeps new ones out."""

import subprocess

from core.ids import NodeId
from drivers.config import Config
from drivers.log import event as log

CUT_MS = 40_000
"""For so long a retired node's connections are closed: by then every server has read its list again."""
CUT_EACH_MS = 5_000
CUT_S_MAX = 2.0


def cut_off(config: Config, node: NodeId) -> None:
    """Close every connection from a node's address to this node's ZooKeeper server; what fails is logged.

    Source: ``ss -K`` of iproute2, which needs root and a kernel with INET_DIAG_DESTROY (Debian's has it).
    """
    machine = config.machines.get(node)
    if machine is None:
        return
    port = f":{config.tables.zookeeper.client_port}"
    command = ("ss", "-K", "-n", "-H", "-t", "dst", machine.address, "sport", "=", port)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CUT_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log("not_cut_off", about=node, error=str(error))
        return
    if done.returncode or done.stdout.strip():
        log("cut_off", about=node, connections=len(done.stdout.splitlines()), error=done.stderr.strip()[:200])
