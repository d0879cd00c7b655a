"""This node's ZooKeeper server: its files, its command line, and whether it serves.

With TLS clients and servers show certificates of the rack's authority, and nobody does anything without one. The data
folder is prepared as often as one likes; ZooKeeper itself keeps the list of members in it up to date.
"""

import base64
import hashlib
import hmac
import selectors
import socket
import ssl
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from core.ids import NodeId
from drivers.access import endpoint
from drivers.clock import now_ms
from drivers.config import Config, Tls
from drivers.join import REVOKED_FILE, names_list
from drivers.zookeeper_codec import member_line
from drivers.zookeeper_session import VOTERS, write_secret
from drivers.zookeeper_tree import subject

FIRST_SERVER = "first-server"
"""A file of this name beside ``node.toml``: this node's server is the ensemble that the rack begins with."""
JARS = (
    "zookeeper", "zookeeper-jute", "slf4j-simple", "netty-codec", "netty-resolver",
    "netty-transport-native-unix-common", "servlet-api", "jetty9-util-ajax",
)  # fmt: skip
"""Debian's class path lacks the last ones, without which there is neither log nor TLS."""
WORD_MS_MAX = 1_000
"""How long a server may take to answer ``srvr``."""
FOUND_MS_MAX = 1_500
"""How long the first server looks for an ensemble that is there already."""
GRACE_MS = 20
"""Servers that are up answer a connection about as quickly as the first of them."""
SERVING = ("leader", "follower", "observer", "standalone")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself. ``mode``: "" if it does not answer, "waiting" if it answers but does not serve."""

    mode: str = ""
    zxid: int = 0
    connections: int = 0
    version: str = ""
    detail: str = ""

    @property
    def serves(self) -> bool:
        """Whether it answers clients: it is in sync with a leader, or leads."""
        return self.mode in SERVING


def folder(config: Config) -> Path:
    """Where the server's files are."""
    return config.tables.state_dir / "zookeeper"


def configured(config: Config) -> bool:
    """Whether this node has a server to run (``Started.server``): its own files, or the mark of the first one."""
    return config.tables.zookeeper.server and ((folder(config) / "zoo.cfg").exists() or is_first(config))


def is_first(config: Config) -> bool:
    """Whether the rack's ensemble begins with this node's server, and nothing here tells of one that began already."""
    state = config.tables.state_dir
    begun = (state / VOTERS).exists() or _aside(config).exists()
    return (config.file.parent / FIRST_SERVER).exists() and not begun


def has_grown(config: Config) -> None:
    """Forget that the rack's ensemble begins here: from now on others know what it holds, whatever this node loses.

    Raises: OSError.
    """
    (config.file.parent / FIRST_SERVER).unlink(missing_ok=True)


def super_password(config: Config) -> str:
    """What changing the ensemble needs: derived from the rack's secret, so every node knows it and no file says it.

    A rack without a secret has nothing but TLS between its servers and the world.
    """
    key = b""
    if config.tables.heartbeat_key is not None:
        key = config.tables.heartbeat_key.read_bytes().strip()
    return hmac.new(key, b"moxie zookeeper super", hashlib.sha256).hexdigest()


def prepare(config: Config, members: Iterable[NodeId], begin: bool = False) -> None:
    """Write the server's files for an ensemble of ``members`` and this node; what ZooKeeper changed since stays.

    ``begin``: the ensemble begins with this server. Any other that finds no data of its own (its disk was replaced)
    votes for nobody until it has a leader's: it cannot help to elect one that lacks what was acknowledged.
    Source: ZooKeeper 3.8, ``db.autocreate``, and the file ``initialize``. Raises: OSError.
    """
    place = folder(config)
    (place / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
    place.chmod(0o700)
    if config.tables.tls is not None:
        tls = config.tables.tls
        _write(place / "server.pem", tls.key.read_bytes().rstrip() + b"\n" + tls.cert.read_bytes())
    _write(place / "data" / "myid", f"{config.me.number}\n".encode())
    if begin and not any((place / "data").glob("version-2/snapshot.*")):
        (place / "data" / "initialize").touch(mode=0o600)
    dynamic = _dynamic_file(place)
    if dynamic is None:
        dynamic = place / "zoo.dyn"
        nodes = sorted({*members, config.node} & config.machines.keys())
        lines = [member_line(config.machines[n], config.tables.zookeeper, config.tables.tls is not None) for n in nodes]
        _write(dynamic, "".join(f"{line}\n" for line in lines).encode())
    settings = {**_settings(config), "dynamicConfigFile": str(dynamic)}
    _write(place / "zoo.cfg", "".join(f"{key}={value}\n" for key, value in settings.items()).encode())


def retire(config: Config) -> None:
    """Put the server's files aside: this node is no member any more, and would begin anew."""
    place = folder(config)
    if (place / "zoo.cfg").exists():
        aside = _aside(config)
        _remove(aside)
        place.rename(aside)


def command(config: Config) -> tuple[str, ...]:
    """The server's command line; no secret is in it. Where its data was lost it begins with none (see ``prepare``)."""
    classes = ":".join(f"/usr/share/java/{jar}.jar" for jar in JARS)
    data = folder(config) / "data"
    return (
        "sh",
        "-c",
        '[ -s "$0/myid" ] || { umask 077; mkdir -p "$0" && echo "$1" >"$0/myid"; }; cd "$2" && shift 2 && exec "$@"',
        str(data),
        str(config.me.number),
        str(revoked_file(config).parent),
        "java",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        f"-Xmx{config.tables.zookeeper.heap_mib}m",
        *config.tables.zookeeper.java,
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        classes,
        "org.apache.zookeeper.server.quorum.QuorumPeerMain",
        str(folder(config) / "zoo.cfg"),
    )


def revoked_file(config: Config) -> Path:
    """The list of certificates that this node's server does not take any more; it runs in the folder of that list.

    Every certificate names the list by its bare name, so that each node reads its own; it is read again while the
    server runs (``drivers.join.revocation``). Without it there is nothing to look into, and every certificate counts.
    """
    tls = config.tables.tls
    return (tls.ca.parent if tls is not None else config.tables.state_dir) / REVOKED_FILE


def looks_into_list(config: Config) -> bool:
    """Whether this node's server goes by such a list: it is there, or was when the server's files were written."""
    if revoked_file(config).exists():
        return True
    try:
        return "ssl.crl=true" in (folder(config) / "zoo.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False


def shows_revocable(config: Config) -> bool:
    """Whether this node's certificate names a list, so that it can be revoked."""
    try:
        return config.tables.tls is not None and names_list(
            ssl.PEM_cert_to_DER_cert(config.tables.tls.cert.read_text(encoding="ascii"))
        )
    except (OSError, ValueError):
        return False


def presents_revocable(address: str, port: int, tls: ssl.SSLContext) -> bool | None:
    """Whether the certificate that a server shows names a list; None if none answers there."""
    try:
        with (
            socket.create_connection((address, port), WORD_MS_MAX / 1_000) as plain,
            tls.wrap_socket(plain, server_hostname=address) as sock,
        ):
            return names_list(sock.getpeercert(binary_form=True) or b"")
    except OSError:
        return None


def log_file(config: Config) -> Path:
    """Where the server's own words go."""
    return config.tables.state_dir / "zookeeper.log"


def own_status(config: Config) -> Status:
    """Ask this node's server."""
    return status(config.me.address, config.tables.zookeeper.client_port, context(config.tables.tls))


def another_answers(config: Config) -> bool:
    """Whether any other node of the inventory listens where a server would: then this one must not begin a rack."""
    port = config.tables.zookeeper.client_port
    others = [machine.address for node, machine in config.machines.items() if node != config.node]
    return bool(listening([endpoint(address, port) for address in others], FOUND_MS_MAX))


def listening(endpoints: Sequence[str], ms_max: int) -> tuple[str, ...]:
    """Those that take a connection, the quickest first; waits until one does and ``GRACE_MS`` more."""
    found: list[str] = []
    end_ms = now_ms() + ms_max
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for one in endpoints:
            stack.enter_context(_knock(one, selector))
        while selector.get_map() and (left_ms := end_ms - now_ms()) > 0:
            for key, _ in selector.select(left_ms / 1_000):
                selector.unregister(key.fileobj)
                if isinstance(key.fileobj, socket.socket) and not _error(key.fileobj):
                    end_ms = min(end_ms, now_ms() + GRACE_MS)
                    found.append(key.data)
    return tuple(found)


def context(tls: Tls | None) -> ssl.SSLContext | None:
    """What a client shows and accepts; None without TLS. Read anew each time, so that renewed certificates count.

    Raises: OSError (also ssl.SSLError) if a file is missing or is no key or certificate.
    """
    if tls is None:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_verify_locations(tls.ca)
    made.load_cert_chain(tls.cert, tls.key)
    return made


def status(address: str, port: int, tls: ssl.SSLContext | None) -> Status:
    """Ask a server how it is: ``srvr`` through the port for clients."""
    try:
        text = _word(address, port, tls, b"srvr")
    except (OSError, ValueError) as error:
        return Status(detail=str(error) or type(error).__name__)
    if "Mode:" not in text:
        return Status(mode="waiting", detail=text.strip()[:200])
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    return Status(
        mode=said["Mode"],
        zxid=int(said.get("Zxid", "0"), 16),
        connections=int(said.get("Connections", "0")),
        version=said.get("Zookeeper version", "").partition("-")[0],
    )


# -- inside ------------------------------------------------------------------------------------------------------------


def _settings(config: Config) -> dict[str, object]:
    table, timeout_ms = config.tables.zookeeper, config.timing.session_timeout_ms
    digested = base64.b64encode(hashlib.sha1(f"super:{super_password(config)}".encode()).digest()).decode()
    place = folder(config)
    found: dict[str, object] = {
        "tickTime": table.tick_ms,
        "initLimit": table.init_limit,
        "syncLimit": table.sync_limit,
        "minSessionTimeout": min(2 * table.tick_ms, timeout_ms),
        "maxSessionTimeout": max(20 * table.tick_ms, timeout_ms),
        "dataDir": place / "data",
        "standaloneEnabled": "false",
        "reconfigEnabled": "true",
        "4lw.commands.whitelist": "srvr,mntr",
        "admin.enableServer": "false",
        "maxClientCnxns": 0,
        "db.autocreate": "false",
        "autopurge.purgeInterval": 1,
        "fastleader.maxNotificationInterval": 1_000,
        "DigestAuthenticationProvider.superDigest": f"super:{digested}",
    }
    if config.tables.tls is not None:
        for where in ("ssl", "ssl.quorum"):
            found |= {
                f"{where}.keyStore.location": place / "server.pem",
                f"{where}.keyStore.type": "PEM",
                f"{where}.trustStore.location": config.tables.tls.ca,
                f"{where}.trustStore.type": "PEM",
                f"{where}.clientAuth": "need",
                f"{where}.crl": str(revoked_file(config).exists()).lower(),
            }
        found |= {
            "secureClientPort": table.client_port,
            "secureClientPortAddress": config.me.address,
            "sslQuorum": "true",
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "enforce.auth.enabled": "true",
            "enforce.auth.schemes": "x509",
            "authProvider.x509": "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
            "X509AuthenticationProvider.superUser": subject("operator"),
        }
    return found


def _aside(config: Config) -> Path:
    return config.tables.state_dir / "zookeeper.old"


def _dynamic_file(place: Path) -> Path | None:
    """The list of members that ZooKeeper uses now, which it renames with every change; None if there is none."""
    try:
        lines = (place / "zoo.cfg").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    found = [Path(line.partition("=")[2].strip()) for line in lines if line.startswith("dynamicConfigFile")]
    return found[-1] if found and found[-1].exists() else None


def _write(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        write_secret(path, data)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        for inner in place.iterdir():
            _remove(inner)
        place.rmdir()
    elif place.exists():
        place.unlink()


def _word(address: str, port: int, tls: ssl.SSLContext | None, word: bytes) -> str:
    with socket.create_connection((address, port), WORD_MS_MAX / 1_000) as plain:
        sock = tls.wrap_socket(plain, server_hostname=address) if tls is not None else plain
        with sock:
            sock.sendall(word)
            parts = []
            while part := sock.recv(65_536):
                parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def _knock(one: str, selector: selectors.BaseSelector) -> socket.socket:
    address, _, port = one.rpartition(":")
    sock = socket.socket(socket.AF_INET6 if "[" in address else socket.AF_INET)
    sock.setblocking(False)
    sock.connect_ex((address.strip("[]"), int(port)))
    selector.register(sock, selectors.EVENT_WRITE, one)
    return sock


def _error(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
