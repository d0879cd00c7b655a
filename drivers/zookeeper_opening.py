"""What is done first in a session: containers that are missing, the session's credential, the ensemble's members."""

import logging
from collections.abc import Callable
from functools import partial

from core.records import ENSEMBLE, Change
from drivers import zookeeper_jute as jute
from drivers.config import Config
from drivers.zookeeper import Client
from drivers.zookeeper_codec import EXISTS, OK, ensemble
from drivers.zookeeper_mirrors import Seen
from drivers.zookeeper_session import Credential
from drivers.zookeeper_tree import containers, grants, session_path

_LOG = logging.getLogger(__name__)


class Opening:
    """Prepares one session, then calls ``then``; if the connection breaks, it ends and the next one begins anew.

    Looking costs the servers nothing; only what is missing is written. ``told`` takes the ensemble's configuration.
    """

    def __init__(
        self,
        config: Config,
        client: Client,
        credential: Credential,
        then: Callable[[], None],
        told: Callable[[Change], None],
    ) -> None:
        self._config = config
        self._client = client
        self._then = then
        self._told = told
        self._own = session_path(credential.session)
        self._data = dict.fromkeys(containers(config.machines), b"") | {self._own: credential.encode()}
        self._missing: list[str] = []
        for path in self._data:
            client.get(path, partial(self._looked, path))
        client.get(ENSEMBLE, self._members)

    def _looked(self, path: str, error: int, seen: Seen | None) -> None:
        if error == OK and seen is not None and seen.data is None:
            self._missing.append(path)

    def _members(self, error: int, seen: Seen | None) -> None:
        """The last answer of the first round."""
        if error or seen is None:
            return
        record = ensemble(seen.data or b"", self._config.machines)
        self._told(Change(path=ENSEMBLE, zxid=seen.zxid, version=seen.version, data=record))
        if not self._missing:
            self._then()
            return
        for path in self._missing:
            rights = grants(path, self._config.node, self._config.tables.tls is not None)
            op = jute.create(path, self._data[path], rights, ephemeral=path == self._own)
            last = path == self._missing[-1]
            self._client.commit([op], partial(self._made, path, last))

    def _made(self, path: str, last: bool, error: int, outcome: jute.Outcome | None) -> None:
        if error or outcome is None:
            return
        if outcome.errors[0] not in (OK, EXISTS):
            _LOG.error("%s could not be made: error %d", path, outcome.errors[0])
        if last:
            self._then()
