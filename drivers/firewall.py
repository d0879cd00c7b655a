"""The doors of a hardened node that depend on its configuration: its services' ports, and netboot on the boot network.

The image's ``nftables.conf`` drops everything but the rack's own ports, and has a set for each of these doors. They are
filled when the supervisor starts; a machine without that table (any other Linux) is left as it is.
"""

import shutil
import subprocess

from drivers import log
from drivers.children import PATH
from drivers.config import Config
from drivers.nft import NFT_SECONDS_MAX

TABLE = "inet firewall"
SERVICES, INTERFACES, NETBOOT = "services", "netboot_interfaces", "netboot_tcp"


def doors(config: Config) -> dict[str, tuple[str, ...]]:
    """Say what belongs into each set: elements as ``nft`` writes them, in order."""
    netboot = config.tables.netboot
    own = {netboot.http_port, netboot.join_port} if netboot is not None else set()
    ports = {service.health.port for service in config.catalog.services if service.health.kind in ("tcp", "http")}
    return {
        SERVICES: tuple(f"tcp . {port}" for port in sorted(ports - own - {0})),
        INTERFACES: (f'"{netboot.interface}"',) if netboot is not None else (),
        NETBOOT: tuple(str(port) for port in sorted(own)),
    }


def open_doors(config: Config) -> bool:
    """Fill the sets for this node; False where this machine has no such table, or refuses (it is logged)."""
    program = shutil.which("nft", path=PATH)
    if program is None or _nft(program, f"list table {TABLE}"):
        return False
    lines = []
    for name, elements in doors(config).items():
        lines.append(f"flush set {TABLE} {name}")
        if elements:
            lines.append(f"add element {TABLE} {name} {{ {', '.join(elements)} }}")
    if said := _nft(program, "\n".join(lines) + "\n"):
        log.event("doors_stay_closed", detail=said)
        return False
    return True


def _nft(program: str, rules: str) -> str:
    """Run some rules at once, all or none; empty, or what was said against them."""
    try:
        done = subprocess.run(
            [program, "-f", "-"], input=rules, text=True, capture_output=True, timeout=NFT_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"exit status {done.returncode}")[:500] if done.returncode else ""
