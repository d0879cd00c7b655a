"""What is no request, comes too slowly or too often is refused, and the join server goes on for everybody else."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from drivers.join.crowd import Limits
from drivers.join.messages import BODY_BYTES_MAX
from tests.real.join_asks import asked, await_refusal, joins, raw, refusal, send, trusting
from tests.real.join_rack import N7, Rack, Served, served

pytestmark = [pytest.mark.real]

HURRIED = Limits(whole_ms=1_500, handshake_ms=700, connections_max=12, each_max=10, knocks_max=10_000)


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    """A rack whose first node boots n6 and n7."""
    return Rack(tmp_path)


@pytest.fixture
def here(rack: Rack) -> Iterator[Served]:
    """Its servers, running."""
    with served(rack) as running:
        yield running


def test_plain_http_is_refused(here: Served) -> None:
    body = asked(here.boot())
    answer = raw(here, b"POST /join HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body, tls=False)
    assert b"moxie" not in answer
    assert b"200" not in answer
    await_refusal(here.rack)
    assert here.rack.reasons == ["bad_request"]
    joins(here)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /join HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /join HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /join HTTP/1.1\r\n\r\n",
        b"POST /join HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /join HTTP/1.1\r\nContent-Length: 0x10\r\n\r\n",
        b"POST /join HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
        b"POST /join HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 200\r\n\r\n{}",
        b"POST /join HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"POST /join HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1),
        b"POST /join HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /join HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"\x00" * 50_000,
    ],
)
def test_what_is_no_request_to_join_is_refused(here: Served, head: bytes) -> None:
    answer = raw(here, head)
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert not answer or answer.endswith(b'{"refused":"bad_request"}')
    await_refusal(here.rack)
    assert here.rack.reasons == ["bad_request"]
    joins(here)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * 60_000,
        b"\xff\xfe" * 1_000,
        b"null",
        b'{"token": 1}',
        json.dumps(dict.fromkeys(("token",), "x" * 60000)).encode(),
    ],
)
def test_a_body_that_is_no_request_is_refused(here: Served, body: bytes) -> None:
    assert refusal(here, body) == "bad_request"
    joins(here)


@pytest.mark.parametrize(
    "change",
    [
        {"token": "../../etc/passwd"},
        {"token": "A" * 64},
        {"uuid": "not a uuid"},
        {"uuid": "-" * 36},
        {"mac": "52:54:00:77:00"},
        {"mac": "52:54:00:77:00:06\n"},
        {"image": "../../../etc"},
        {"csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"},
        {"csr": ""},
        {"extra": "field"},
    ],
)
def test_a_field_of_the_wrong_form_is_refused_and_spends_nothing(here: Served, change: dict[str, str]) -> None:
    boot = here.boot()
    reason = refusal(here, asked(boot, **change))
    assert reason == ("wrong_machine" if change == {"uuid": "-" * 36} else "bad_request")
    assert here.rack.admitted == []


def ended(link: socket.socket) -> bool:
    """Whether the server hangs up before the link's time is over, with a word or without."""
    try:
        while link.recv(4_096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_slow_askers_are_thrown_out_and_disturb_nobody(rack: Rack) -> None:
    with served(rack, limits=HURRIED) as here:
        with ExitStack() as stack:
            links: list[socket.socket] = []
            for index in range(8):
                link = stack.enter_context(socket.create_connection(("127.0.0.1", here.join), 10))
                if index % 2:  # the others do not send a byte of a handshake
                    link = trusting(here).wrap_socket(link, server_hostname="127.0.0.1")
                    stack.enter_context(link).sendall(b"POST /join HTTP/1.1\r\nContent-Length: 500\r\n\r\n{")
                links.append(link)
            joins(here)
            begin = time.monotonic()
            assert all(map(ended, links))
            assert time.monotonic() - begin < 5
        await_refusal(rack, 8)
        assert set(rack.reasons) == {"bad_request"}
        joins(here, N7)


def test_a_flood_of_connections_from_one_address_is_cut_off_there(rack: Rack) -> None:
    limits = Limits(each_max=4, knocks_max=30)
    with served(rack, limits=limits) as here:
        with ExitStack() as stack:
            links = [stack.enter_context(socket.create_connection(("127.0.0.1", here.join), 5)) for _ in range(60)]
            assert all(map(ended, links[10:])), "beyond the few that one address may have they are closed at once"
        other = socket.create_connection(("127.0.0.1", here.join), 10, source_address=("127.0.0.9", 0))
        with other, trusting(here).wrap_socket(other, server_hostname="127.0.0.1") as secure:
            assert secure.version() == "TLSv1.3", "another address is served"


def test_the_rack_hears_of_so_many_refusals_and_no_more(rack: Rack) -> None:
    with served(rack, limits=Limits(knocks_max=10_000, told_max=5)) as here:
        for _ in range(30):
            send(here, b"{}")
        assert len(rack.reasons) == 5
        rack.now_ms += 60_000
        send(here, b"{}")
        assert "25 more were refused" in rack.said[-1].detail  # type: ignore[union-attr]
        joins(here)
