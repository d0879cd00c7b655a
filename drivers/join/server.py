"""The join server: a machine shows its one-time token over TLS and gets a certificate and all that a node needs.

It answers one request, ``POST /join``, once for each connection. Whoever is refused learns the reason and nothing
else; the rack learns it as ``JoinRefused``. Whatever is sent, and however slowly, it goes on: every size, count and
time has a bound. A token is spent only when everything else that could fail has been done.
"""

import asyncio
import hmac
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from core.errors import InputError
from core.events import JoinAdmitted, JoinRefused
from core.gate import Gate, Refused, Window
from core.ids import NO_NODE, ImageId, NodeId
from drivers.ca import Authority, Signed, requested_key
from drivers.clock import now_ms, wall_ms
from drivers.config import Tls
from drivers.join.crowd import Crowd, Limits, Voice
from drivers.join.messages import BODY_BYTES_MAX, PATH, Asked, Bundle, File, No
from drivers.join.tokens import digest
from drivers.log import event as log

HEAD_BYTES_MAX = 8 << 10
BACKLOG = 64
CERTIFICATE_FILE = "tls/node.pem"


class Bundles(Protocol):
    """What a node gets beside its certificate."""

    def names(self, node: NodeId) -> tuple[str, ...]:
        """Addresses and host names of a node, for its certificate. Raises: InputError if it is not known here."""
        ...

    def bundle(self, node: NodeId, image: ImageId) -> Bundle:
        """Everything but the certificate, for a node that runs ``image``.

        Raises: InputError, OSError if some of it cannot be read.
        """
        ...


class Retired(Protocol):
    """The machines and certificates that were taken out of the rack for good."""

    def machine(self, uuid: str) -> NodeId:
        """The node that the machine of this UUID was; "" if it was not retired."""
        ...

    def certificate(self, serial: str) -> bool:
        """Whether a certificate of this serial number (hex) counts no more."""
        ...


class NobodyRetired:
    """For a rack that never retired anything."""

    def machine(self, uuid: str) -> NodeId:
        """Nobody."""
        return NO_NODE

    def certificate(self, serial: str) -> bool:
        """None."""
        return False


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate of this rack that an asker shows although it need not."""

    node: NodeId
    serial: str

    @classmethod
    def of(cls, peer: object) -> "Shown | None":
        """Read what ``ssl`` says of the other side's certificate; None if it showed none."""
        if not isinstance(peer, dict) or not peer:
            return None
        names = [value for group in peer.get("subject", ()) for key, value in group if key == "commonName"]
        return cls(node=NodeId(names[0]) if names else NO_NODE, serial=str(peer.get("serialNumber", "")))


class JoinServer:
    """One server, in the loop that calls ``start``. ``gate`` is the one that the boot scripts ask, in the same loop."""

    def __init__(
        self,
        gate: Gate,
        authority: Authority,
        bundles: Bundles,
        emit: Callable[[JoinAdmitted | JoinRefused], None],
        *,
        retired: Retired | None = None,
        limits: Limits | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._gate = gate
        self._authority = authority
        self._bundles = bundles
        self._emit = emit
        self._retired = retired if retired is not None else NobodyRetired()
        self._limits = limits if limits is not None else Limits()
        self._clock = clock
        self._crowd = Crowd(self._limits)
        self._voice = Voice(self._limits.told_max, self._limits.told_ms)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self.port = 0

    async def start(self, address: str, port: int, tls: Tls) -> None:
        """Listen. ``tls``: this node's own certificate, which must name ``address``. ``port`` 0: any, see ``port``.

        Raises: InputError if the port is taken or a file of ``tls`` is of no use.
        """
        self._context = server_context(tls)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
        except OSError as error:
            listener.close()
            reason = (error.strerror or str(error)).lower()
            raise InputError(
                [f"join_port = {port}: cannot listen on {address} ({reason}); needed: a free port"]
            ) from None
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._listener, self.port = listener, listener.getsockname()[1]
        self._keep(asyncio.create_task(self._accept(listener)))

    async def stop(self) -> None:
        """Stop listening and hang up on everybody."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # -- connections ------------------------------------------------------------------------------------------------

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                link, peer = await loop.sock_accept(listener)
            except OSError as error:  # out of descriptors, or the asker was gone before it was answered
                log("join_accept_failed", error=str(error))
                await asyncio.sleep(0.1)
                continue
            address = str(peer[0])
            if self._crowd.enter(address, self._clock()):
                self._keep(asyncio.create_task(self._serve(link, address)))
            else:
                link.close()
                if self._voice.may(self._clock()):
                    log("join_crowded", address=address, connections=self._crowd.size)

    async def _serve(self, link: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(self._limits.whole_ms / 1_000):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    link,
                    ssl=self._context,
                    ssl_handshake_timeout=self._limits.handshake_ms / 1_000,
                    ssl_shutdown_timeout=1.0,
                )
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                await self._converse(reader, writer, address)
        except TimeoutError:
            self._refuse(Refused(reason="bad_request", detail="too slow"), address)
        except asyncio.IncompleteReadError as error:
            if error.partial:  # without a byte it came for the certificate only, as every machine does first
                self._refuse(Refused(reason="bad_request", detail="half a request"), address)
        except (ConnectionResetError, BrokenPipeError):
            pass  # it hung up, as it may at any time
        except OSError as error:  # also ssl.SSLError
            self._refuse(Refused(reason="bad_request", detail=f"no request: {_reason(error)}"), address)
        finally:
            if transport is not None:
                transport.abort()
            self._crowd.leave(address)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
        body = await _body(reader)
        shown = Shown.of(writer.get_extra_info("peercert"))
        answer = self._decide(body, shown, address)
        match answer:
            case Refused():
                self._refuse(answer, address)
                status = "400 Bad Request" if answer.reason == "bad_request" else "403 Forbidden"
                data = msgspec.json.encode(No(refused=answer.reason))
            case Bundle():
                status, data = "200 OK", msgspec.json.encode(answer)
            case None:
                status, data = "503 Service Unavailable", b"{}"
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + data)
        await writer.drain()
        writer.close()
        with suppress(OSError):  # the asker may hang up first: it has all
            await writer.wait_closed()

    # -- decisions --------------------------------------------------------------------------------------------------

    def _decide(self, body: bytes | None, shown: "Shown | None", address: str) -> Bundle | Refused | None:
        """What a request gets; None: nothing now, but perhaps later."""
        if body is None:
            return Refused(reason="bad_request", detail="no request to join")
        try:
            asked = msgspec.json.decode(body, type=Asked)
            requested_key(asked.csr.encode())
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return Refused(reason="bad_request", detail=_reason(error)[:200])
        except InputError as error:
            return Refused(reason="bad_request", detail=error.problems[0][:200])
        key, now = digest(asked.token), self._clock()
        if node := self._retired.machine(asked.uuid):
            return Refused(reason="retired", node=node, detail=_who(asked))
        claimed = self._claimed(key, now)
        if shown is not None and self._retired.certificate(shown.serial):
            return Refused(reason="retired", node=shown.node, detail=f"{_who(asked)} with a revoked certificate")
        if shown is not None and claimed is not None and shown.node != claimed.node:
            self._gate.redeem(key, "", "", claimed.image, now)  # whoever shows it has stolen it: spoil it
            return Refused(reason="wrong_machine", node=claimed.node, detail=f"{_who(asked)}, which is {shown.node},")
        try:
            names = self._bundles.names(claimed.node) if claimed is not None else ()
            bundle = self._bundles.bundle(claimed.node, claimed.image) if claimed is not None else None
        except (InputError, OSError) as error:
            log("join_not_ready", node=claimed.node if claimed is not None else "", error=_reason(error))
            return None
        answer = self._gate.redeem(key, asked.uuid, asked.mac, ImageId(asked.image), now)
        if isinstance(answer, Refused):
            return answer
        assert bundle is not None
        try:
            signed = self._authority.sign(asked.csr.encode(), answer.node, names)
        except InputError as error:
            log("join_not_signed", node=answer.node, error=_reason(error))
            return None
        log("join_admitted", node=answer.node, address=address, certificate=signed.serial, boot_id=asked.boot_id)
        self._emit(
            JoinAdmitted(at_ms=now, node=answer.node, guid=answer.guid, mac=answer.mac, certificate=signed.serial)
        )
        return _complete(bundle, signed)

    def _claimed(self, key: str, now: int) -> Window | None:
        """The window of this token as long as it may be exchanged; looked up without spending it."""
        found = None
        for window in self._gate.expected(now):
            if window.token and hmac.compare_digest(window.token, key):
                found = window
        return found

    def _refuse(self, refused: Refused, address: str) -> None:
        """Tell the rack and the log, but not more often than they can bear."""
        if not self._voice.may(self._clock()):
            return
        kept, self._voice.kept = self._voice.kept, 0
        more = f"; {kept} more were refused" if kept else ""
        detail = f"{refused.detail} from {address}{more}"
        log("join_refused", reason=refused.reason, node=refused.node, detail=detail)
        self._emit(JoinRefused(at_ms=self._clock(), reason=refused.reason, node=refused.node, detail=detail))


def server_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.3 with this node's certificate and its authority's in the chain.

    A certificate of the asker's is looked at if it shows one.
    Raises: InputError if a file is missing or of no use.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_OPTIONAL
    try:
        made.load_cert_chain(tls.cert, tls.key)
        made.load_verify_locations(tls.ca)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        needed = "the node's key and certificate, and its authority's"
        raise InputError([f"{tls.cert}, {tls.key}, {tls.ca}: cannot be used ({reason}); needed: {needed}"]) from None
    return made


async def _body(reader: asyncio.StreamReader) -> bytes | None:
    """The body of ``POST /join``; None if it is any other request, or too long.

    Raises: EOFError (asyncio.IncompleteReadError) if it ends before its end.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or name.lower() in fields:
            return None  # two lengths, a folded line: what two readers understand in two ways
        fields[name.lower()] = value.strip()
    length = fields.get("content-length", "")
    known = first == f"POST {PATH} HTTP/1.1" and "transfer-encoding" not in fields
    if not known or not (length.isascii() and length.isdigit() and len(length) <= 6 and int(length) <= BODY_BYTES_MAX):
        return None
    return await reader.readexactly(int(length))


def _complete(bundle: Bundle, signed: Signed) -> Bundle:
    certificate = File(path=CERTIFICATE_FILE, data=signed.pem)
    return msgspec.structs.replace(
        bundle, files=(certificate, *bundle.files), certificate=signed.serial, time_ms=wall_ms()
    )


def _who(asked: Asked) -> str:
    return f"machine {asked.uuid} with {asked.mac}"


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return "; ".join(error.problems)
    return str(error) or type(error).__name__
