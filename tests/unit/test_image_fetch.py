"""Having an image here: downloads that are cut, resumed, lied to; nothing is taken that its maker did not sign."""

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from core.ids import ImageId
from drivers.image.fetch import FETCHED, NotFetched, fetch, prune
from drivers.image.manifest import verify
from tests.real.slot_disk import an_image

SECONDS = 20


class Server(http.server.ThreadingHTTPServer):
    """A boot server with its moods. ``cut_after``: bytes of each answer, -1 for all; ``asked``: paths with ranges."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.cut_after = -1
        self.ranges = True
        self.asked: list[tuple[str, str]] = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version: ClassVar[str] = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append((self.path, wanted))
        path = self.server.folder / self.path.removeprefix("/images/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        part = content[begin:]
        cut = self.server.cut_after
        self.wfile.write(part if cut < 0 or cut >= len(part) else part[:cut])
        if 0 <= cut < len(part):
            self.close_connection = True
            self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing is to be heard."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageId]:
    images = tmp_path_factory.mktemp("source")
    return images, an_image(images, "one", 1 << 20)


@pytest.fixture
def server(source: tuple[Path, ImageId]) -> Iterator[Server]:
    running = Server(source[0])
    yield running
    running.shutdown()
    running.server_close()


def have(server: Server | None, source: tuple[Path, ImageId], into: Path, seconds: float = SECONDS) -> Path:
    servers = [server.name] if server is not None else []
    return fetch(source[1], servers, into, source[0] / "keys/images.pub", time.monotonic() + seconds)


def test_an_image_is_downloaded_whole(server: Server, source: tuple[Path, ImageId], tmp_path: Path) -> None:
    folder = have(server, source, tmp_path)
    assert verify(folder, source[0] / "keys/images.pub") == source[1]
    assert [path.name for path in tmp_path.iterdir()] == [source[1]]


def test_what_is_here_is_not_asked_for_again(server: Server, source: tuple[Path, ImageId], tmp_path: Path) -> None:
    have(server, source, tmp_path)
    asked = len(server.asked)
    have(server, source, tmp_path)
    assert len(server.asked) == asked


def test_a_download_that_is_cut_goes_on_where_it_was(
    server: Server, source: tuple[Path, ImageId], tmp_path: Path
) -> None:
    server.cut_after = 400_000
    folder = have(server, source, tmp_path)
    ranges = [wanted for path, wanted in server.asked if path.endswith("root.squashfs")]
    assert ranges == ["", "bytes=400000-", "bytes=800000-"]
    assert verify(folder, source[0] / "keys/images.pub") == source[1]


def test_a_download_goes_on_after_this_machine_was_restarted(
    server: Server, source: tuple[Path, ImageId], tmp_path: Path
) -> None:
    server.cut_after = 300_000
    with pytest.raises(NotFetched, match="not to be had in time"):
        have(server, source, tmp_path, seconds=0.3)
    server.cut_after = -1
    server.asked.clear()
    have(server, source, tmp_path)
    assert any(wanted for path, wanted in server.asked if path.endswith("root.squashfs"))


def test_a_server_that_knows_no_ranges_is_good_enough(
    server: Server, source: tuple[Path, ImageId], tmp_path: Path
) -> None:
    part = tmp_path / f".{source[1]}.part"
    part.mkdir()
    (part / "root.squashfs").write_bytes(b"half of something")
    server.ranges = False
    assert verify(have(server, source, tmp_path), source[0] / "keys/images.pub") == source[1]


def test_bytes_that_were_changed_are_refused(server: Server, source: tuple[Path, ImageId], tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    folder = bad / source[1]
    folder.mkdir(parents=True)
    for path in (source[0] / source[1]).iterdir():
        folder.joinpath(path.name).write_bytes(path.read_bytes())
    root = folder / "root.squashfs"
    root.write_bytes(b"x" + root.read_bytes()[1:])
    server.folder = bad
    with pytest.raises(NotFetched, match=r"root.squashfs fails its check") as caught:
        have(server, source, tmp_path / "mine")
    assert caught.value.refused
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_manifest_of_another_image_is_never_taken(
    server: Server, source: tuple[Path, ImageId], tmp_path: Path
) -> None:
    other = ImageId("0123456789abcdef")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / other).symlink_to(source[0] / source[1])
    server.folder = tmp_path / "other"
    with pytest.raises(NotFetched, match="its manifest is not that of"):
        fetch(other, [server.name], tmp_path / "mine", source[0] / "keys/images.pub", time.monotonic() + 0.2)


def test_an_image_signed_with_another_key_is_refused(
    server: Server, source: tuple[Path, ImageId], tmp_path: Path
) -> None:
    an_image(tmp_path / "theirs", "any", 1_000)
    key = tmp_path / "theirs/keys/images.pub"
    with pytest.raises(NotFetched, match="signed with another key") as caught:
        fetch(source[1], [server.name], tmp_path / "mine", key, time.monotonic() + SECONDS)
    assert caught.value.refused


def test_a_server_that_is_away_is_left_for_one_that_has_it(
    server: Server, source: tuple[Path, ImageId], tmp_path: Path
) -> None:
    servers = ["127.0.0.1:9", server.name]
    fetch(source[1], servers, tmp_path, source[0] / "keys/images.pub", time.monotonic() + SECONDS)


def test_without_a_server_what_is_here_must_do(source: tuple[Path, ImageId], tmp_path: Path) -> None:
    assert have(None, source, source[0]) == source[0] / source[1]
    with pytest.raises(NotFetched, match="no server to ask"):
        have(None, source, tmp_path)


def test_only_downloads_that_nothing_needs_are_removed(tmp_path: Path) -> None:
    for name in ("kept", "gone", "mine"):
        (tmp_path / name).mkdir()
    for name in ("kept", "gone"):
        (tmp_path / name / FETCHED).touch()
    (tmp_path / ".half.part").mkdir()
    assert prune(tmp_path, [ImageId("kept")]) == ("half", "gone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "mine"]
