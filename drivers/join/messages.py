"""What a machine and a join server say to each other: one request, one answer, JSON over TLS.

Every field has a bound, and what does not fit it is no request at all.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated

import msgspec

from core.gate import Refusal

BODY_BYTES_MAX = 64 << 10
"""The longest request. A real one has about 1,500 bytes."""
ANSWER_BYTES_MAX = 8 << 20
"""The longest answer: an inventory of 255 machines with their passwords has about 200 KB."""
FILES_MAX = 1_000
PATH_CHARS_MAX = 200
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
PATH = "/join"


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine asks for a certificate. ``csr``: PEM, signed with its key; ``image``: what it booted."""

    token: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    uuid: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Fa-f-]{32,36}\Z")]
    mac: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}\Z")]
    image: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{0,64}\Z")]
    csr: Annotated[str, msgspec.Meta(max_length=8 << 10)]
    boot_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f-]{0,64}\Z")] = ""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle; ``path`` is relative to the node's folder. ``secret``: for its owner only."""

    path: str
    data: bytes
    secret: bool = False


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """All that a node gets. ``certificate``: its serial number in hex; ``time_ms``: the server's, since 1970."""

    node: str
    files: tuple[File, ...]
    certificate: str = ""
    time_ms: int = 0


class No(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to whoever is refused: why, and nothing else."""

    refused: Refusal


def misplaced(path: str) -> bool:
    """Whether a bundle must not hold a file of this path: one that leaves the folder, or is no plain name."""
    parts = PurePosixPath(path).parts
    if not 0 < len(parts) <= 4 or len(path) > PATH_CHARS_MAX or str(PurePosixPath(path)) != path:
        return True
    return not all(NAME.fullmatch(part) for part in parts)
