"""What machines are known by: the GUID of a BMC, the UUID that the firmware shows, and network cards.

Vendors differ in the order of the GUID's bytes: most here send it as SMBIOS shows it, some with the first three fields
swapped, a few reversed. Source: IPMI 2.0, 20.8; SMBIOS 3.6, 7.2.1; facts/bmc-and-netboot.md section 3.
"""

from hashlib import blake2b

import msgspec

from core.ids import Guid

CARDS = 2
_SWAPPED, _REVERSED = 3, 4
"""Of ten machines, those below the first number send the first three fields swapped, below the second all reversed."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """One machine: ``guid`` as its BMC sends it, ``uuid`` as it shows itself at boot, ``macs`` of its network cards."""

    guid: Guid
    uuid: str
    macs: tuple[str, ...]

    @property
    def mac(self) -> str:
        """The card that it boots with."""
        return self.macs[0]


def identity_of(name: str) -> Identity:
    """Make the identity of the machine of that name, always the same."""
    digest = blake2b(f"machine/{name}".encode(), digest_size=32).digest()
    shown, order = digest[:16], digest[16] % 10
    sent = shown
    if order < _SWAPPED:
        sent = shown[3::-1] + shown[5:3:-1] + shown[7:5:-1] + shown[8:]
    elif order < _REVERSED:
        sent = shown[::-1]
    a, b, c = digest[17:20]
    cards = (f"52:54:00:{a:02x}:{b:02x}:{c & ~(CARDS - 1) | card:02x}" for card in range(CARDS))
    return Identity(guid=Guid(sent.hex()), uuid=_text(shown), macs=tuple(cards))


def _text(raw: bytes) -> str:
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
