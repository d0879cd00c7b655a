"""What comes from the management network is checked: no bytes make a parser fail, and none make it say too much."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.console import RAW_BYTES_MAX, TAIL_BYTES_MAX, readable
from drivers.discovery import Answered, read_answer
from drivers.redfish_root import read_root
from drivers.roster import address_and_port
from tests.unit.spoken_bmc import answer_of, capabilities, guid_answer, pong

REAL = st.sampled_from([pong(), capabilities(), guid_answer("00112233445566778899aabbccddeeff"), answer_of(0x37, b"")])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A real answer with some bytes changed, cut off or added."""
    packet = bytearray(draw(REAL))
    for _ in range(draw(st.integers(0, 4))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    return bytes(packet[: draw(st.integers(0, len(packet)))]) + draw(st.binary(max_size=40))


@given(st.one_of(st.binary(max_size=2_000), spoilt()))
def test_no_datagram_hurts(packet: bytes) -> None:
    read = read_answer(packet)
    if read is None:
        return
    assert isinstance(read, Answered)
    assert read.guid == "" or (len(read.guid) == 32 and bytes.fromhex(read.guid))
    both = read.plus(Answered(ipmi=True, guid="0" * 32)).plus(read)
    assert len(both.guid) in (0, 32)
    assert len(both.other_guid) in (0, 32)


@given(
    st.one_of(st.binary(max_size=3_000), st.binary(max_size=500).map(lambda body: b"HTTP/1.1 200 OK\r\n\r\n" + body))
)
def test_no_answer_over_http_hurts(data: bytes) -> None:
    read_root(data)


@given(st.one_of(st.binary(max_size=5_000), st.text(max_size=2_000).map(str.encode), st.just(b"\x1b[" * 30_000)))
def test_a_console_is_always_short_and_printable(raw: bytes) -> None:
    text = readable(raw[:RAW_BYTES_MAX])
    assert len(text.encode()) <= TAIL_BYTES_MAX
    assert all(sign == "\n" or sign.isprintable() for sign in text)


@given(st.text(max_size=60))
def test_a_bmcs_name_is_taken_apart_whatever_it_is(text: str) -> None:
    _, port = address_and_port(text)
    assert 0 <= port <= 99_999
