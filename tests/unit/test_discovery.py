"""Finding BMCs: what is asked, how fast, and what is believed of the answers."""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator, Sequence

import pytest

from drivers.clock import now_ms
from drivers.discovery import CAPABILITIES, GUID, PING, Answered, ask, read_answer
from drivers.redfish_root import Root, read_root
from tests.real.lab_bmc import free_port
from tests.unit.spoken_bmc import Answer, Speaker, answer_of, capabilities, guid_answer, honest, pong

IDENTITY = "33221100554477668899aabbccddeeff"
NET = [f"127.9.0.{number}" for number in range(1, 255)]


@pytest.fixture
def port() -> int:
    return free_port(socket.SOCK_DGRAM)


@pytest.fixture
def speak(port: int) -> Iterator[Callable[[str, Answer], Speaker]]:
    made: list[Speaker] = []

    def begin(address: str, answer: Answer) -> Speaker:
        made.append(Speaker(address, port, answer))
        return made[-1]

    yield begin
    for speaker in made:
        speaker.close()


def look(addresses: Sequence[str], port: int, packets_per_s_max: int = 5_000, ms: int = 5_000) -> dict[str, Answered]:
    return asyncio.run(ask(addresses, packets_per_s_max, now_ms() + ms, port))


def test_the_questions_are_those_of_the_specifications_to_the_byte() -> None:
    assert PING.hex() == "0600ff06000011be80000000"
    assert CAPABILITIES.hex() == "0600ff07000000000000000000092018c88100388e04b5"
    assert GUID.hex() == "0600ff07000000000000000000072018c881003748"


@pytest.mark.parametrize(
    ("packet", "read"),
    [
        (pong(), Answered(ipmi=True)),
        (pong(ipmi=False), Answered()),
        (capabilities(), Answered(ipmi=True, v2=True)),
        (capabilities(v2=False), Answered(ipmi=True)),
        (guid_answer(IDENTITY), Answered(ipmi=True, guid=IDENTITY)),
    ],
    ids=["pong", "pong of something else", "version 2", "version 1.5", "identity"],
)
def test_each_answer_is_read(packet: bytes, read: Answered) -> None:
    assert read_answer(packet) == read


WRONG = {
    "empty": b"",
    "a question": GUID,
    "half a pong": pong()[:20],
    "a pong of nobody": pong()[:4] + b"\0\0\0\0" + pong()[8:],
    "an error": answer_of(0x37, bytes(16), completion=0xC1),
    "half an identity": guid_answer(IDENTITY[:16]),
    "cut off": guid_answer(IDENTITY)[:-3],
    "a wrong checksum": guid_answer(IDENTITY)[:-1] + b"\x55",
    "a signed answer": guid_answer(IDENTITY)[:4] + b"\x02" + guid_answer(IDENTITY)[5:],
    "a length that lies": guid_answer(IDENTITY)[:13] + b"\xff" + guid_answer(IDENTITY)[14:],
    "another command": answer_of(0x01, bytes(16)),
    "another protocol": b"\x05" + guid_answer(IDENTITY)[1:],
}


@pytest.mark.parametrize("packet", WRONG.values(), ids=WRONG.keys())
def test_what_is_no_answer_is_none(packet: bytes) -> None:
    assert read_answer(packet) is None


def test_254_addresses_are_looked_through_in_about_a_second(port: int, speak: Callable[..., Speaker]) -> None:
    for number in (1, 77, 254):
        speak(f"127.9.0.{number}", honest(IDENTITY))
    began_ms = now_ms()
    found = look(NET, port)
    assert now_ms() - began_ms < 2_500
    whole = Answered(ipmi=True, v2=True, guid=IDENTITY)
    assert found == {"127.9.0.1": whole, "127.9.0.77": whole, "127.9.0.254": whole}


def test_whoever_answered_everything_is_not_asked_again(port: int, speak: Callable[..., Speaker]) -> None:
    well = speak("127.9.0.1", honest(IDENTITY))
    deaf = speak("127.9.0.2", lambda _: ())
    look(NET[:2], port)
    assert len(well.asked) == 3
    assert len(deaf.asked) == 9


def test_packets_leave_no_faster_than_allowed(port: int, speak: Callable[..., Speaker]) -> None:
    deaf = speak("127.9.0.1", lambda _: ())
    began_ms = now_ms()
    look(NET[:100], port, packets_per_s_max=200, ms=900)
    assert now_ms() - began_ms < 1_500
    assert len(deaf.asked) <= 3  # 300 packets a round would take 1.5 s


def test_a_look_ends_at_its_limit(port: int) -> None:
    began_ms = now_ms()
    assert look(NET, port, packets_per_s_max=50, ms=400) == {}
    assert now_ms() - began_ms < 1_000


def test_hostile_answers_neither_hurt_nor_are_believed(port: int, speak: Callable[..., Speaker]) -> None:
    flood = [bytes([n % 256]) * (n % 200) for n in range(2_000)] + [WRONG["a length that lies"]] * 100
    speak("127.9.0.1", lambda _: flood)
    speak("127.9.0.2", honest(IDENTITY))
    two = [guid_answer(IDENTITY), guid_answer(IDENTITY[::-1])]
    speak("127.9.0.3", lambda packet: two if packet == GUID else honest(IDENTITY)(packet))
    found = look(NET[:3], port, ms=700)
    assert "127.9.0.1" not in found
    assert found["127.9.0.2"].guid == IDENTITY
    assert found["127.9.0.3"].other_guid


def test_only_who_was_asked_is_listened_to(port: int, speak: Callable[..., Speaker]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.9.0.9", 0))

        def through_another(packet: bytes) -> Sequence[bytes]:
            stranger.sendto(guid_answer(IDENTITY), asked_from[0])
            return ()

        asked_from: list[tuple[str, int]] = []
        speaker = speak("127.9.0.1", lambda _: ())
        original = speaker._socket.recvfrom  # the stranger must know where to answer to

        def noting(size: int) -> tuple[bytes, tuple[str, int]]:
            packet, there = original(size)
            asked_from[:] = [there]
            through_another(packet)
            return packet, there

        speaker._socket = Noting(speaker._socket, noting)  # type: ignore[assignment]  # as far as it is used
        assert look(NET[:1], port, ms=500) == {}


class Noting:
    """A socket whose ``recvfrom`` is another's."""

    def __init__(self, inner: socket.socket, recvfrom: Callable[[int], tuple[bytes, tuple[str, int]]]) -> None:
        self.recvfrom = recvfrom
        self.sendto = inner.sendto
        self.close = inner.close


def test_no_network_is_an_error_and_not_an_empty_rack(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    def nowhere(self: object, data: bytes, addr: object = None) -> None:
        self._protocol.error_received(OSError(errno.ENETUNREACH, "Network is unreachable"))  # type: ignore[attr-defined]

    monkeypatch.setattr("asyncio.selector_events._SelectorDatagramTransport.sendto", nowhere)
    with pytest.raises(OSError, match="unreachable"):
        look(NET[:20], port)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (HEAD + b'\r\n{"RedfishVersion":"1.6.0","UUID":"x","more":[1]}', Root(version="1.6.0", uuid="x")),
        (HEAD + b'\r\n{"RedfishVersion":"1.0.2"}', Root(version="1.0.2")),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n1a\r\n" + b'{"RedfishVersion":"1.0.2"}' + b"\r\n0\r\n\r\n",
            Root(version="1.0.2"),
        ),
        (HEAD + b'\r\n{"RedfishVersion":7}', None),
        (HEAD + b"\r\n[]", None),
        (HEAD + b"\r\n\xff\xfe", None),
        (b"HTTP/1.1 404 Not Found\r\n\r\n{}", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"", None),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}", None),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", None),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5_000 + b"\r\n", None),
    ],
)
def test_a_redfish_service_root_is_told_from_everything_else(data: bytes, read: Root | None) -> None:
    assert read_root(data) == read
