"""The boot server's HTTP: ranges, refusals, hostile clients, and forty machines at once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drivers.image.manifest import MANIFEST
from drivers.netboot import http
from drivers.netboot.http import Part, part_of
from drivers.netboot.place import Place
from tests.unit.boot_server import FILES, PLACE, BootServer

TAG = '"tag"'

RANGES = (
    ("", Part(0, 100, False)),
    ("bytes=0-", Part(0, 100)),
    ("bytes=10-19", Part(10, 20)),
    ("bytes=90-1000", Part(90, 100)),
    ("bytes=-10", Part(90, 100)),
    ("bytes=-1000", Part(0, 100)),
    ("bytes=99-99", Part(99, 100)),
    ("bytes=100-", None),
    ("bytes=-0", None),
    ("bytes=20-10", Part(0, 100, False)),
    ("bytes=-", Part(0, 100, False)),
    ("bytes=0-1,5-6", Part(0, 100, False)),
    ("lines=1-2", Part(0, 100, False)),
    ("bytes=99999999999999999999-", Part(0, 100, False)),
    ("bytes=\u0661-", Part(0, 100, False)),
)


@pytest.mark.parametrize(("asked", "part"), RANGES)
def test_a_range_is_what_the_standard_says_of_it(asked: str, part: Part | None) -> None:
    assert part_of(asked, "", 100, TAG) == part


def test_a_range_of_an_empty_file_is_none() -> None:
    assert part_of("bytes=0-", "", 0, TAG) is None
    assert part_of("bytes=-5", "", 0, TAG) is None


def test_if_the_file_changed_since_all_of_it_is_sent() -> None:
    assert part_of("bytes=10-", TAG, 100, TAG) == Part(10, 100)
    assert part_of("bytes=10-", '"other"', 100, TAG) == Part(0, 100, False)
    assert part_of("bytes=10-", "Mon, 23 Nov 2026 03:00:00 GMT", 100, TAG) == Part(0, 100, False)


def served(folder: Path, do: Callable[[BootServer], Awaitable[None]], **settings: int) -> None:
    """Run a boot server and do something with it."""

    async def run() -> None:
        server = BootServer(folder, **settings)  # type: ignore[arg-type]  # both are numbers
        await server.start()
        try:
            async with asyncio.timeout(60):
                await do(server)
        finally:
            await server.http.stop()

    asyncio.run(run())


def test_a_file_comes_whole_in_part_or_not_at_all(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        path = f"/images/{server.image}/root.squashfs"
        whole = (server.images / server.image / "root.squashfs").read_bytes()
        answer = await server.get(path)
        assert (answer.status, answer.body) == (200, whole)
        tag = answer.fields["etag"]
        part = await server.get(path, Range="bytes=1000000-", If_Range=tag)
        assert (part.status, part.body) == (206, whole[1_000_000:])
        assert part.fields["content-range"] == f"bytes 1000000-{len(whole) - 1}/{len(whole)}"
        beyond = await server.get(path, Range=f"bytes={len(whole)}-")
        assert (beyond.status, beyond.fields["content-range"], beyond.body) == (416, f"bytes */{len(whole)}", b"")
        head = await server.get(path, "HEAD")
        assert (head.status, head.fields["content-length"], head.body) == (200, str(len(whole)), b"")

    served(tmp_path, do)


def test_a_connection_is_used_again_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        path = f"/images/{server.image}/{MANIFEST}"
        answer = await server.say(
            f"GET {path} HTTP/1.1\r\n\r\nGET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.body.count(b"HTTP/1.1 200 OK") == 1
        once = await server.say(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert once.fields["connection"] == "close"

    served(tmp_path, do)


OUTSIDE = (
    "/",
    "/images",
    "/images/",
    "/images/../images/images.key",
    "/images/images.key",
    "/images/{image}",
    "/images/{image}/",
    "/images/{image}/..",
    "/images/{image}/../images.key",
    "/images/{image}/%2e%2e/images.key",
    "/images/{image}/..%2fimages.key",
    "/images/{image}/extra",
    "/images/{image}/root.squashfs/",
    "/images/{image}/root.squashfs%00.png",
    "/images/{image}/.hidden",
    "/images/0000000000000000/root.squashfs",
    "//etc/passwd",
    "/etc/passwd",
    "/images/{image}/%c0%ae%c0%ae/images.key",
)


def test_no_path_leads_out_of_the_image_that_was_signed(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        (server.images / server.image / "extra").write_text("not signed", encoding="ascii")
        for path in OUTSIDE:
            assert (await server.get(path.format(image=server.image))).status == 404, path

    served(tmp_path, do)


NONSENSE = (
    (b"\r\n\r\n", 400),
    (b"GET\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\n\r\n", 400),
    (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n\r\n", 405),
    (b"DELETE / HTTP/1.1\r\n\r\n", 405),
    (b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 400),
    (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n folded: line\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100 + b"\r\n", 431),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    (b"\xff\xfe\x00\x01\r\n\r\n", 400),
)


@pytest.mark.parametrize(("words", "status"), NONSENSE)
def test_nonsense_gets_a_short_answer_and_no_more(tmp_path: Path, words: bytes, status: int) -> None:
    async def do(server: BootServer) -> None:
        answer = await server.say(words)
        assert answer.status in (status, 0)  # 0: hung up before all of it was read, which loses the answer
        assert (await server.get("/health")).status == 200

    served(tmp_path, do)


def test_a_flood_of_query_fields_harms_nobody(tmp_path: Path) -> None:
    async def do(server: BootServer) -> None:
        assert (await server.get("/node.ipxe?" + "&".join(f"a{n}=1" for n in range(500)))).status in (200, 400, 0)
        assert (await server.get("/health")).status == 200

    served(tmp_path, do)


def test_whoever_is_not_of_the_boot_network_gets_no_answer() -> None:
    assert Place.has(PLACE, "10.98.0.77")
    assert Place.has(PLACE, "127.0.0.1")
    assert not Place.has(PLACE, "10.99.0.77")
    assert not Place.has(PLACE, "fe80::1")
    assert not Place.has(PLACE, "nonsense")


def test_whoever_says_nothing_is_thrown_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "HEAD_S_MAX", 0.05)

    async def do(server: BootServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTT")
        assert await reader.read() == b""
        writer.close()

    served(tmp_path, do)


def test_whoever_does_not_take_what_was_asked_for_is_cut_off_and_its_place_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PIECE_S_MAX", 0.2)

    async def do(server: BootServer) -> None:
        big = server.images / server.image / "root.squashfs"
        big.write_bytes(bytes(40_000_000))
        image = server.shelf._images[server.image]
        image.files["root.squashfs"] = (image.files["root.squashfs"][0], 40_000_000)
        server.shelf.get = lambda _: image  # type: ignore[method-assign]  # as if it had been signed so
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET /images/{server.image}/root.squashfs HTTP/1.1\r\n\r\n".encode())
        await reader.readexactly(100)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        answer = await server.get(f"/images/{server.image}/root.squashfs", Range="bytes=0-2000000")
        assert (answer.status, len(answer.body)) == (206, 2_000_001)
        writer.transport.abort()

    served(tmp_path, do, streams_max=1)


def test_beyond_the_streams_that_run_others_are_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PATIENCE_MS", 50)

    async def do(server: BootServer) -> None:
        path = f"/images/{server.image}/root.squashfs"
        first = asyncio.create_task(server.get(path))
        await asyncio.sleep(0.1)
        busy = await server.get(path)
        assert (busy.status, busy.fields["retry-after"]) == (503, "5")
        assert (await server.get(f"/images/{server.image}/{MANIFEST}")).status == 200  # small ones need no place
        assert len((await first).body) == (server.images / server.image / "root.squashfs").stat().st_size

    served(tmp_path, do, streams_max=1, mbit_max=20)


def test_forty_machines_at_once_all_get_their_image_and_few_load_their_kernel_together(tmp_path: Path) -> None:
    loading: set[int] = set()
    most = 0

    async def machine(server: BootServer, number: int) -> None:
        nonlocal most
        for _ in range(2_000):
            script = await server.script(number)
            if "moxie.token" in script:
                break
            assert "this machine asks again" in script, script
            await asyncio.sleep(0.1)  # iPXE sleeps for the seconds that the script says
        loading.add(number)
        most = max(most, len(loading))
        for name in FILES:
            answer = await server.get(f"/images/{server.image}/{name}", number=number)
            assert answer.status == 200
            assert len(answer.body) == (server.images / server.image / name).stat().st_size
            if name == "initrd.img":
                loading.discard(number)

    async def do(server: BootServer) -> None:
        for number in range(1, 41):
            server.allow(number)
        await asyncio.gather(*(machine(server, number) for number in range(1, 41)))
        assert 1 < most <= 5  # one may still read its last bytes when the next begins
        stages = [(node, stage) for _, node, stage in server.told]
        assert sorted(stages) == sorted(
            (f"n{number}", stage) for number in range(1, 41) for stage in ("script", "kernel", "image")
        )

    served(tmp_path, do, streams_max=4)
