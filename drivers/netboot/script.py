"""What iPXE is told: the script that boots one machine, and those for everybody else.

Nothing that a machine sent stands in a script: every word comes from the rack's own files.
"""

import msgspec

from core.ids import ImageId, NodeId
from drivers.image.manifest import INITRD, VMLINUZ
from drivers.netboot.place import IMAGES, Place

QUERY = "uuid=${uuid}&mac=${mac:hexhyp}&serial=${serial:uristring}&plat=${platform}"
"""How a machine says who it is. Source: iPXE settings (ipxe.org/cfg)."""
TRIES_MAX = 60
PAUSE_S = 5


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What one machine is given. ``mac``: the network card it asked with; ``words``: kernel words of its image."""

    node: NodeId
    address: str
    mac: str
    image: ImageId
    token: str
    words: str = ""


def first_script(place: Place) -> str:
    """Have a machine say who it is. This is the script that DHCP names."""
    return f"#!ipxe\nchain --replace {place.http}/node.ipxe?{QUERY} || exit 1\n"


def boot_script(place: Place, given: Given, *, efi: bool) -> str:
    """Load kernel and initrd, again and again while the server is away or busy, and start them."""
    base = f"{place.http}{IMAGES}/{given.image}"
    words = kernel_words(place, given)
    named = f" initrd={INITRD}" if efi else ""  # a UEFI kernel looks for it itself. Source: ipxe.org/appnote/efi
    return (
        "#!ipxe\n"
        f"echo Moxie: this is {given.node}, image {given.image}\n"
        "set tries:int32 0\n"
        ":load\n"
        "imgfree\n"
        f"kernel {base}/{VMLINUZ}{named} {words} || goto again\n"
        f"initrd --name {INITRD} {base}/{INITRD} || goto again\n"
        "boot || exit 1\n"
        ":again\n"
        "inc tries\n"
        f"iseq ${{tries}} {TRIES_MAX} && exit 1 ||\n"
        f"echo Moxie: no luck, again in {PAUSE_S} s\n"
        f"sleep {PAUSE_S}\n"
        "goto load\n"
    )


def kernel_words(place: Place, given: Given) -> str:
    """The kernel's command line: what initramfs and join client read."""
    return " ".join(
        (
            "console=ttyS0",
            *given.words.split(),
            f"moxie.node={given.node}",
            f"moxie.ip={given.address}/{place.subnet.prefixlen}",
            *((f"moxie.gw={place.gateway}",) if place.gateway else ()),
            f"moxie.mac={given.mac}",
            f"moxie.server={place.server}",
            f"moxie.http={place.http_port}",
            f"moxie.join={place.join_port}",
            f"moxie.ca={place.ca}",
            f"moxie.image={given.image}",
            *((f"moxie.disk={place.disk}",) if place.disk else ()),
            f"moxie.token={given.token}",
        )
    )


def wait_script(place: Place, seconds: int) -> str:
    """Have a machine come again: others are being served."""
    return (
        "#!ipxe\n"
        f"echo Moxie: others load their image now, this machine asks again in {seconds} s\n"
        f"sleep {seconds}\n"
        f"chain --replace {place.http}/node.ipxe?{QUERY} || exit 1\n"
    )


def leave_script(why: str) -> str:
    """Let a machine go on with whatever its firmware boots next: its own disk."""
    return f"#!ipxe\necho Moxie: not booted from the network ({why})\nexit 1\n"
