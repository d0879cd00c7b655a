"""A session's credential, which is all that it takes to use or end the session: kept, passed on, never shown."""

import os
from pathlib import Path

import msgspec

from core.ids import NO_SESSION, NodeId, SessionId

VOTERS = "voters"
"""In the state folder: the last voters that this node knew of."""


class Credential:
    """A session with its password. Its text says nothing of the password."""

    __slots__ = ("password", "session")

    def __init__(self, session: SessionId, password: bytes) -> None:
        self.session = session
        self.password = password

    def __repr__(self) -> str:
        return f"Credential({self.session})"

    def encode(self) -> bytes:
        """Write it as JSON."""
        return msgspec.json.encode({"session": self.session, "password": self.password.hex()})

    @classmethod
    def decode(cls, data: bytes) -> "Credential | None":
        """Read it; None if these bytes are none."""
        try:
            found = msgspec.json.decode(data, type=_Stored)
            return cls(SessionId(found.session), bytes.fromhex(found.password))
        except (msgspec.DecodeError, ValueError):
            return None


class _Stored(msgspec.Struct):
    session: int
    password: str


class Kept:
    """What outlives an agent: its session (``run_dir``, so not a boot) and the last voters (``state_dir``)."""

    def __init__(self, run_dir: Path, state_dir: Path) -> None:
        self._session = run_dir / "session"
        self._voters = state_dir / VOTERS

    def credential(self) -> Credential | None:
        """The last session, None if there is none."""
        try:
            return Credential.decode(self._session.read_bytes())
        except OSError:
            return None

    @property
    def session(self) -> SessionId:
        """The last session for ``Started``; 0 if there is none."""
        found = self.credential()
        return found.session if found is not None else NO_SESSION

    def keep(self, credential: Credential) -> None:
        """Keep a session. Raises: OSError."""
        write_secret(self._session, credential.encode())

    def forget(self) -> None:
        """Keep no session: it was ended."""
        self._session.unlink(missing_ok=True)

    def voters(self) -> tuple[NodeId, ...]:
        """The last voters that were known; none if none were."""
        try:
            return msgspec.json.decode(self._voters.read_bytes(), type=tuple[NodeId, ...])
        except (OSError, msgspec.DecodeError):
            return ()

    def keep_voters(self, voters: tuple[NodeId, ...]) -> None:
        """Keep the voters. Raises: OSError."""
        if voters and voters != self.voters():
            write_secret(self._voters, msgspec.json.encode(voters))


def write_secret(path: Path, data: bytes) -> None:
    """Replace an owner-only file as a whole, durably. Raises: OSError."""
    path.with_name(path.name + ".new").unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
