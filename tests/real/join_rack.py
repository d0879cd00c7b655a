"""A join server as a boot server runs it, on loopback: real TLS, a real gate, a signed image, and machines that ask.

The clock of the gate is the test's own: a window ends when the test says so.
"""

import asyncio
import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import msgspec

from core.events import JoinAdmitted, JoinRefused
from core.gate import Admitted, Gate
from core.ids import Guid, ImageId, NodeId
from drivers.ca import Authority
from drivers.config import Config, NetbootTable, load_config
from drivers.image.manifest import ROOT, Manifest, describe, make_keys, sign, write_manifest
from drivers.init import Plan, node_folder, prepare
from drivers.join import tokens
from drivers.join.boot import Boot, Self
from drivers.join.bundle import Bundles
from drivers.join.client import Machine
from drivers.join.crowd import Limits
from drivers.join.server import JoinServer, Retired

T = TypeVar("T")

N6, N7 = NodeId("n6"), NodeId("n7")
GUID = {N6: Guid("11111111-2222-3333-4444-555555555506"), N7: Guid("11111111-2222-3333-4444-555555555507")}
MAC = {N6: "52:54:00:77:00:06", N7: "52:54:00:77:00:07"}
CATALOG = 'name = "small"\n[[service]]\nname = "ntp"\nrun = "everywhere"\n'


def first_node(folder: Path) -> Path:
    """Make a rack's files of the inventory and the catalog in a folder; its first node's ``node.toml``."""
    made = prepare(
        Plan(
            inventory=folder / "inventory.toml",
            catalog=folder / "catalog.toml",
            out=folder / "rack",
            state_dir=folder / "state",
            run_dir=folder / "run",
        )
    )
    return node_folder(folder / "rack", made.first) / "node.toml"


class Rack:
    """Keys, image and files of a rack whose first node, n1 at 127.0.0.1, boots n6 and n7."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = _made(folder)
        self.key = folder / "images" / "images.pub"
        self.image = _image(folder / "images", folder / "build", "minimal")
        netboot = NetbootTable(
            interface="lo", images=folder / "images", image=self.image, ca=folder / "rack" / "ca", key=self.key
        )
        tables = msgspec.structs.replace(self.config.tables, netboot=netboot)
        self.config = msgspec.structs.replace(self.config, tables=tables)
        self.authority = Authority(folder / "rack" / "ca")
        self.gate = Gate()
        self.said: list[JoinAdmitted | JoinRefused] = []
        self.now_ms = 1_000

    @property
    def fingerprint(self) -> str:
        """What the kernel command line says of the authority."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        cert = x509.load_pem_x509_certificate(self.authority.cert.read_bytes())
        return hashlib.sha256(cert.public_bytes(Encoding.DER)).hexdigest()

    @property
    def reasons(self) -> list[str]:
        """Why somebody was refused, in order."""
        return [event.reason for event in self.said if isinstance(event, JoinRefused)]

    @property
    def admitted(self) -> list[str]:
        """Who got a certificate, in order."""
        return [event.node for event in self.said if isinstance(event, JoinAdmitted)]


class Served:
    """A rack whose servers run. ``http``: the port that images come from; ``join``: the join server's."""

    def __init__(self, rack: Rack, loop: asyncio.AbstractEventLoop, server: JoinServer, http: int) -> None:
        self.rack = rack
        self.loop = loop
        self.join = server.port
        self.http = http

    def do(self, work: Callable[[], T]) -> T:
        """Do something where the gate is used, so that nothing comes between."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def boot(self, node: NodeId = N6, *, ms: int = 60_000, macs: tuple[str, ...] = ()) -> Boot:
        """Open a window for a node as its steward does, have it ask for its script, and say what stands in that."""
        rack = self.rack

        def ask() -> Boot:
            rack.gate.open(node, GUID[node], macs or (MAC[node],), rack.image, rack.now_ms + ms)
            token = tokens.make()
            answer = rack.gate.ask(GUID[node], MAC[node], token.digest, rack.now_ms)
            assert isinstance(answer, Admitted)
            return Boot(
                node=node,
                mac=MAC[node],
                server="127.0.0.1",
                ca=rack.fingerprint,
                image=rack.image,
                token=token.text,
                http=self.http,
                join=self.join,
            )

        return self.do(ask)

    def machine(self, node: NodeId = N6, **changes: str) -> Machine:
        """The machine that a node is: its firmware's words, its cards, its image."""
        place = self.rack.folder / "machines" / node
        texts = {
            "uuid": GUID[node].upper(),
            "boot_id": "b0071d00-0000-0000-0000-00000000000" + node[1:],
            "root_hash": hashlib.sha256(b"root of minimal").hexdigest(),
            "cards/eth7/address": MAC[node],
            **changes,
        }
        for name, text in texts.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text + "\n", encoding="ascii")
        (place / "token").write_text("kept somewhere", encoding="ascii")
        me = Self(
            uuid=place / "uuid",
            boot_id=place / "boot_id",
            root_hash=place / "root_hash",
            cards=place / "cards",
            image_key=self.rack.key,
        )
        etc, kept = place / "etc", (place / "token",)
        return Machine(folder=etc, me=me, tokens=kept, set_clock=False, give_up_ms=3_000, cmdline=place / "cmdline")


@contextmanager
def served(rack: Rack, retired: Retired | None = None, limits: Limits | None = None) -> Iterator[Served]:
    """Run the rack's join server and a server of its images."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = JoinServer(
        rack.gate,
        rack.authority,
        Bundles(rack.config),
        rack.said.append,
        retired=retired,
        limits=limits,
        clock=lambda: rack.now_ms,
    )
    tls = rack.config.tables.tls
    assert tls is not None
    asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0, tls), loop).result(10)
    images = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(rack.folder)))
    threading.Thread(target=images.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield Served(rack, loop, server, images.server_address[1])
    finally:
        images.shutdown()
        images.server_close()
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing."""


def _made(folder: Path) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "secret").write_text("s3cret-bmc\n", encoding="ascii")
    text = '[[node]]\nid = "n1"\nnumber = 1\naddress = "127.0.0.1"\n'
    for number in (6, 7):
        text += f'[[node]]\nid = "n{number}"\nnumber = {number}\naddress = "10.98.0.{number}"\n'
        text += '[node.bmc]\ndriver = "ipmi"\naddress = "10.98.1.6"\npassword_file = "secret"\n'
    (folder / "inventory.toml").write_text(text, encoding="ascii")
    (folder / "catalog.toml").write_text(CATALOG, encoding="ascii")
    return load_config(first_node(folder))


def _image(images: Path, build: Path, profile: str) -> ImageId:
    """A signed image, as ``rack image build`` leaves it, of three very small files."""
    build.mkdir()
    images.mkdir()
    private, public = make_keys(images.parent / "keys")
    (images / "images.pub").write_bytes(public.read_bytes())
    names = ("vmlinuz", "initrd.img", ROOT)
    for name in names:
        (build / name).write_text(f"{'root' if name == ROOT else name} of {profile}", encoding="ascii")
    files = describe(build, names)
    image = write_manifest(build, Manifest(format=1, profile=profile, version="1", cmdline="quiet", files=files))
    sign(build, private)
    build.rename(images / image)
    return image
