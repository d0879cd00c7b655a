"""BMCs as far as a look sees them: sockets on loopback that answer three questions, or something else."""

import socket
import threading
from collections.abc import Callable, Sequence

from drivers.discovery import ASF, IPMI

Answer = Callable[[bytes], Sequence[bytes]]


def pong(ipmi: bool = True) -> bytes:
    """What a presence ping is answered with. Source: ASF 2.0, 3.2.4.3."""
    entities = 0x81 if ipmi else 0x01
    head = bytes([0x06, 0, 0xFF, ASF]) + bytes.fromhex("000011be") + bytes([0x40, 0, 0, 16])
    return head + bytes.fromhex("000011be") + bytes(4) + bytes([entities]) + bytes(7)


def answer_of(command: int, data: bytes, completion: int = 0) -> bytes:
    """A BMC's answer outside of sessions. Source: IPMI 2.0, table 13-8."""
    head, body = bytes([0x81, 0x07 << 2]), bytes([0x20, 0, command, completion]) + data
    message = head + bytes([-sum(head) & 255]) + body + bytes([-sum(body) & 255])
    return bytes([0x06, 0, 0xFF, IPMI]) + bytes(9) + bytes([len(message)]) + message


def capabilities(v2: bool = True) -> bytes:
    """What Get Channel Authentication Capabilities is answered with."""
    return answer_of(0x38, bytes([0x01, 0x84 if v2 else 0x04, 0x04, 0x02 if v2 else 0x01, 0, 0, 0, 0]))


def guid_answer(guid: str) -> bytes:
    """What Get System GUID is answered with."""
    return answer_of(0x37, bytes.fromhex(guid))


def honest(guid: str) -> Answer:
    """Answers each question once."""

    def answer(packet: bytes) -> Sequence[bytes]:
        if packet[3] == ASF:
            return [pong()]
        return [capabilities()] if packet[19] == 0x38 else [guid_answer(guid)]

    return answer


class Speaker:
    """One address that answers, in a thread of its own until ``close``."""

    def __init__(self, address: str, port: int, answer: Answer) -> None:
        self.asked: list[bytes] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self._socket.settimeout(0.05)
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._closing = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                packet, there = self._socket.recvfrom(2_048)
            except TimeoutError:
                continue
            self.asked.append(packet)
            for answer in self._answer(packet):
                self._socket.sendto(answer, there)
