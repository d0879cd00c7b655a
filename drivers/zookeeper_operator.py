"""An operator's connection to the shared records: short, blocking, with a session of its own."""

from collections.abc import Sequence

from core.errors import InputError
from core.records import ENSEMBLE, AnyRecord, Change
from drivers import zookeeper_jute as jute
from drivers.access import endpoint
from drivers.config import Config
from drivers.zookeeper import Brief
from drivers.zookeeper_codec import DENIED, EXISTS, OK, decode, encode, ensemble, failed_write, failure
from drivers.zookeeper_mirrors import Seen
from drivers.zookeeper_tree import REVOKED, ROOT, SESSIONS, Grants, containers, grants

ANSWER_MS_MAX = 4_000
DEPTH_MAX = 4


class Unreachable(Exception):
    """No server answered, or none that has a quorum behind it; a sentence for people."""


class Operator:
    """Reads and writes records by compare-and-set. A context manager: leaving ends the session.

    Raises: Unreachable, here and from every method; InputError if our certificate cannot be used.
    """

    def __init__(self, config: Config, ms_max: int = ANSWER_MS_MAX) -> None:
        self._config = config
        port = config.tables.zookeeper.client_port
        endpoints = [endpoint(machine.address, port) for machine in config.machines.values()]
        try:
            self._brief = Brief(endpoints, config.tables.tls, ms_max)
        except TimeoutError as error:
            raise Unreachable(str(error)) from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(
                [f"{config.file}: [tls]: cannot be used ({reason}); needed: what 'rack init' made"]
            ) from None

    def __enter__(self) -> "Operator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._brief.__exit__()

    # -- reading ----------------------------------------------------------------------------------------------------

    def read(self, path: str) -> Change:
        """The state of one path."""
        return self._change(path, self._get(path))

    def tree(self) -> dict[str, Change]:
        """All shared records by path, the ensemble among them. Credentials of sessions are not read."""
        found: dict[str, Change] = {}
        self._below(ROOT, found, DEPTH_MAX)
        found[ENSEMBLE] = self.read(ENSEMBLE)
        return found

    def below(self, root: str) -> dict[str, Change]:
        """The records at and below a path, by path."""
        found: dict[str, Change] = {}
        self._below(root, found, DEPTH_MAX)
        return found

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(self, path: str, record: AnyRecord, version: int) -> bool:
        """Write a record if it is still at ``version``; whether it was written.

        Fields that a newer version of the format has stay as they are.
        """
        seen = self._get(path)
        if seen.data is None or seen.version != version:
            return False
        old = decode(seen.data)
        return self._commit(path, jute.put(path, encode(record, old.unknown if old is not None else None), version))

    def create(self, path: str, record: AnyRecord) -> bool:
        """Write a record where there is none; whether it was written."""
        return self._commit(path, jute.create(path, encode(record), self._grants(path)))

    def published(self) -> tuple[bytes, int]:
        """What lies at ``REVOKED`` and its version; nothing and -1 if nothing does."""
        seen = self._get(REVOKED)
        return (seen.data, seen.version) if seen.data is not None else (b"", -1)

    def publish(self, data: bytes, version: int) -> bool:
        """Lay something else there if it is still at ``version`` (-1: nothing is there); whether that was done."""
        if version < 0:
            return self._commit(REVOKED, jute.create(REVOKED, data, self._grants(REVOKED)))
        return self._commit(REVOKED, jute.put(REVOKED, data, version))

    def prepare(self) -> tuple[str, ...]:
        """Make the containers of all records, with the access lists of this inventory; name those that were missing."""
        made = []
        for path in containers(self._config.machines):
            if self._commit(path, jute.create(path, b"", self._grants(path))):
                made.append(path)
            else:
                self._answered(path, self._brief.ask(jute.set_grants(path, self._grants(path))))
        return tuple(made)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _grants(self, path: str) -> Grants:
        return grants(path, self._config.node, self._config.tables.tls is not None)

    def _get(self, path: str) -> Seen:
        error, seen = self._brief.get(path)
        self._answered(path, error)
        return seen if seen is not None else Seen(zxid=0)

    def _change(self, path: str, seen: Seen) -> Change:
        data: AnyRecord | None = None
        if path == ENSEMBLE and seen.data is not None:
            data = ensemble(seen.data, self._config.machines)
        elif seen.data:
            found = decode(seen.data)
            data = found.record if found is not None else None
        return Change(path=path, zxid=seen.zxid, version=seen.version, data=data, owner=seen.owner)

    def _below(self, path: str, found: dict[str, Change], depth: int) -> None:
        if path == SESSIONS:
            return
        change = self.read(path)
        if change.data is not None:
            found[path] = change
        error, names = self._brief.children(path)
        self._answered(path, error)
        for name in names or () if depth else ():
            self._below(f"{path}/{name}", found, depth - 1)

    def _commit(self, path: str, request: jute.Request) -> bool:
        error, outcome = self._brief.commit((request,))
        self._answered(path, error)
        errors: Sequence[int] = outcome.errors if outcome is not None else ()
        if DENIED in errors:
            self._answered(path, DENIED)
        wrong = failed_write(errors)
        if wrong is not None and wrong[1].reason != "conflict":
            raise Unreachable(f"{path}: {wrong[1].detail}")
        return wrong is None

    def _answered(self, path: str, error: int) -> None:
        if error == DENIED:
            remedy = "needed: the operator's certificate (operator.toml of 'rack init')"
            raise InputError([f"{self._config.file}: this certificate may not write {path}; {remedy}"])
        if error not in (OK, EXISTS):
            raise Unreachable(f"{path}: {failure(error).detail}")
