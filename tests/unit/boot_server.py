"""A boot server without DHCP on loopback: real gate, real signed image, real HTTP; the clock is the test's own."""

import asyncio
import ipaddress
from collections.abc import Sequence
from pathlib import Path

import msgspec

from core.effects import AllowBoot
from core.gate import Gate
from core.ids import NO_IMAGE, Guid, ImageId, NodeId
from drivers.clock import seconds
from drivers.image.manifest import Manifest, describe, make_keys, sign, write_manifest
from drivers.netboot.boots import Boots
from drivers.netboot.http import HttpServer, hear_nothing
from drivers.netboot.pace import Bandwidth, Line, Pace, Streams
from drivers.netboot.place import Place
from drivers.netboot.reports import Reports
from drivers.netboot.shelf import Shelf
from drivers.netboot.wire import Allow

PLACE = Place(
    interface="lo",
    server="127.0.0.1",
    subnet=ipaddress.IPv4Network("10.98.0.0/24"),
    pool=("10.98.0.200", "10.98.0.250"),
    ca="ab" * 32,
)
FILES = {"vmlinuz": 300_000, "initrd.img": 200_000, "root.squashfs": 2_000_000}
STARTED_MS = 1_000


def uuid_of(number: int) -> str:
    """The UUID of machine ``number``."""
    return f"11223344-5566-7788-9900-aabbccdd{number:04x}"


def mac_of(number: int) -> str:
    """The network card of machine ``number``, as iPXE writes it."""
    return f"52-54-00-98-00-{number:02x}"


def make_image(images: Path, content: bytes = b"moxie") -> ImageId:
    """Make and sign an image; its files repeat ``content``."""
    images.mkdir(parents=True, exist_ok=True)
    if not (images / "images.key").exists():
        make_keys(images)
    build = images / "build"
    build.mkdir()
    for name, size in FILES.items():
        (build / name).write_bytes((name.encode() + content) * (size // (len(name) + len(content))))
    words = Manifest(format=1, profile="minimal", version="1", cmdline="quiet", files=describe(build, tuple(FILES)))
    image = write_manifest(build, words)
    sign(build, images / "images.key")
    build.rename(images / image)
    return image


class BootServer:
    """One boot server. ``now_ms`` is its clock."""

    def __init__(self, folder: Path, *, streams_max: int = 4, mbit_max: int = 10_000, own: bool = True) -> None:
        self.images = folder / "images"
        self.image = make_image(self.images) if own else NO_IMAGE
        self.others: Sequence[str] = ()
        self.now_ms = STARTED_MS
        self.gate = Gate()
        self.reports = Reports(lambda: self.now_ms)
        self.shelf = Shelf(
            self.images, self.images / "images.pub", lambda: self.now_ms, lambda: self.others, folder / "slots"
        )
        self.line = Line(streams_max)
        self.boots = self.make_boots(self.image)
        pace = Pace(Bandwidth(mbit_max), Streams(streams_max), lambda: seconds() * 1_000)
        self.http = HttpServer(lambda request: self.boots.answer(request), pace, PLACE.has, hear_nothing)
        self.port = 0
        self.orders = 0

    def make_boots(self, default: ImageId) -> Boots:
        """Make what decides, as a service that starts does."""
        return Boots(PLACE, self.gate, self.shelf, self.line, self.reports, lambda: self.now_ms, default)

    async def start(self) -> None:
        """Verify the image and listen."""
        if self.image:
            self.shelf.take(self.images / self.image, self.image)
        self.port = await self.http.start("127.0.0.1", 0)

    def allow(self, number: int, ms: int = 60_000, macs: tuple[str, ...] = (), image: ImageId = NO_IMAGE) -> Allow:
        """Open a window for machine ``number``, as its agent does; the order."""
        self.orders += 1
        effect = AllowBoot(
            node=NodeId(f"n{number}"),
            ms_max=ms,
            guid=Guid(uuid_of(number).replace("-", "")),
            macs=macs,
            image=image,
        )
        order = Allow(key=f"test-{self.orders}", effect=effect, address=f"10.98.0.{number}", until_ms=self.now_ms + ms)
        self.boots.allow(order)
        return order

    @property
    def told(self) -> list[tuple[str, ...]]:
        """What was told to the agent: for each event its kind and what matters of it."""
        found: list[tuple[str, ...]] = []
        for told in self.reports.kept:
            fields = msgspec.to_builtins(told.event)
            found.append((fields["event"], fields["node"], fields.get("stage") or fields.get("reason", "")))
        return found

    async def get(self, path: str, method: str = "GET", number: int = 1, **fields: str) -> "Answer":
        """Ask once, on a connection of its own, from the address of machine ``number``."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        return await self.say(f"{method} {path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n".encode(), number)

    async def say(self, words: bytes, number: int = 1) -> "Answer":
        """Send bytes, and read until the server hangs up."""
        own = (f"127.0.0.{number}", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=own)
        try:
            writer.write(words)
            return Answer.of(await reader.read())
        finally:
            writer.close()

    async def script(self, number: int, uuid: str = "", mac: str = "", plat: str = "pcbios") -> str:
        """The script that machine ``number`` gets, or whoever says that it has another UUID or card."""
        query = f"uuid={uuid or uuid_of(number)}&mac={mac or mac_of(number)}&serial=S&plat={plat}"
        return (await self.get(f"/node.ipxe?{query}", number=number)).body.decode()


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; ``fields`` by name in lower case. ``status`` 0: the server hung up without a word."""

    status: int
    fields: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> "Answer":
        """Read one."""
        head, _, body = data.partition(b"\r\n\r\n")
        if not head:
            return cls(0, {}, b"")
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return cls(int(first.split()[1]), fields, body)
