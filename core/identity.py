"""What a machine is known by: the GUID that its BMC shows, the UUID of its SMBIOS, and its network cards."""

from functools import lru_cache

GUID_BYTES = 16
_DASHES = (8, 12, 16, 20)


def plain_mac(mac: str) -> str:
    """A hardware address in the form ``52:54:00:77:00:01``; what is none comes back in lower case."""
    digits = mac.lower().replace("-", "").replace(":", "")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2)) if len(digits) == 12 else mac.lower()


@lru_cache(maxsize=1 << 14)
def forms(guid: str) -> tuple[str, ...]:
    """The UUIDs that a machine may show in SMBIOS if its BMC sends ``guid``: vendors differ in the order of bytes.

    First as sent, then with the first three fields swapped, then all reversed. Empty if it is no identity at all.
    Source: SMBIOS 3.6, 7.2.1; IPMI 2.0, 20.8.
    """
    raw = _raw(guid)
    if raw is None or raw in (bytes(GUID_BYTES), b"\xff" * GUID_BYTES):
        return ()
    return tuple(dict.fromkeys(map(_text, (raw, _swapped(raw), raw[::-1]))))


@lru_cache(maxsize=1 << 14)
def identity(guid: str) -> str:
    """One name for a machine, whichever of its forms its BMC sends today; what is no identity names itself.

    Swapping fields and reversing generate eight orders of the bytes; the least of them stands for all.
    """
    raw = _raw(guid)
    if raw is None or not forms(guid):
        return guid
    met = [raw]
    for one in met:
        met += [new for new in (_swapped(one), one[::-1]) if new not in met]
    return min(met).hex()


def same_machine(guid: str, uuid: str) -> bool:
    """Whether a BMC's GUID and a machine's UUID are one identity, in any order of bytes."""
    raw = _raw(uuid)
    return raw is not None and _text(raw) in forms(guid)


def _raw(text: str) -> bytes | None:
    """The bytes of 32 hex digits, with or without dashes; None for anything else."""
    digits = text.replace("-", "")
    if len(digits) != 2 * GUID_BYTES or not digits.isalnum() or not digits.isascii():
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None


def _swapped(raw: bytes) -> bytes:
    """The first three fields in the other order of bytes."""
    return raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]


def _text(raw: bytes) -> str:
    """The usual form, with dashes."""
    digits = raw.hex()
    cuts = (0, *_DASHES, 2 * GUID_BYTES)
    return "-".join(digits[cuts[at] : cuts[at + 1]] for at in range(len(cuts) - 1))
