"""What ``rack init --first`` is told on its command line; apart, so that no other command loads more than this."""

import argparse
from pathlib import Path

HOME, STATE = Path("/etc/moxie"), Path("/var/lib/moxie")


def add_first(parser: argparse.ArgumentParser) -> None:
    """Add the words of the first server to the parser of ``rack init``."""
    group = parser.add_argument_group("the first server of a rack that finds and boots the others by itself")
    group.add_argument("--first", action="store_true", help="make this machine the first server; again is harmless")
    group.add_argument(
        "--answers", type=Path, metavar="FILE", help="a TOML file with the answers below, as on a USB key"
    )
    group.add_argument("--start", action="store_true", help="start the rack as well, and write its first records")
    group.add_argument("--boot", metavar="SUBNET", help='where machines boot, such as "10.98.0.0/24"')
    group.add_argument("--pool", metavar="FIRST-LAST", help="addresses lent while they boot (default: the upper ones)")
    group.add_argument("--gateway", metavar="ADDRESS", help="their way out (default: none)")
    group.add_argument("--install", metavar="DISK", help="their disk that images are put on (default: none)")
    group.add_argument("--proxy", action="store_true", help="another DHCP server lends the addresses")
    group.add_argument("--management", metavar="SUBNET", help="where the BMCs are")
    group.add_argument("--bmc-driver", choices=("ipmi", "redfish"), help="how they are called (default: ipmi)")
    group.add_argument("--bmc-user", metavar="NAME", help="user of the BMCs (default: admin)")
    group.add_argument("--bmc-password", type=Path, metavar="FILE", help="their password: one line, mode 600")
    group.add_argument("--bmc-ca", type=Path, metavar="FILE", help="what Redfish BMCs' certificates are signed by")
    group.add_argument("--images", type=Path, metavar="DIR", help="an image's folder, or a folder of such")
    group.add_argument("--image", metavar="ID", help="which one machines boot (default: the only one)")
    group.add_argument("--image-key", type=Path, metavar="FILE", help="images.pub, what images are signed with")
    group.add_argument("--home", type=Path, default=HOME, metavar="DIR", help=f"this node's files (default: {HOME})")
    group.add_argument("--state", type=Path, default=STATE, metavar="DIR", help=f"what it keeps (default: {STATE})")
