"""What a machine's firmware and iPXE do, in a few lines: DHCP with option 97, TFTP, scripts, and all that they name.

As a program, ``python -m drivers.lab.firmware UUID MAC [WORD...]`` boots once on ``eth0`` of the namespace that it runs
in and prints one JSON object. Nobody's kernel is started: what was loaded is what counts.
"""

import hashlib
import http.client
import json
import re
import secrets
import socket
import struct
import subprocess
import sys
import time
from urllib.parse import quote, urlsplit
from uuid import UUID

import msgspec

SO_BINDTODEVICE = 25
INTERFACE = "eth0"
DISCOVER, REQUEST, ACK = 1, 3, 5
COOKIE = bytes.fromhex("63825363")
ASK_S = 1.0
TFTP_PORT, TFTP_BLOCK, TFTP_BLOCKS_MAX = 69, 512, 1 << 16
PACKET_BYTES_MAX = 2_048
SCRIPTS_MAX = 30
HTTP_S, REDIRECTS_MAX, FILE_BYTES_MAX = 20.0, 3, 1 << 28
FILES = ("vmlinuz", "initrd.img", "root.squashfs")
ECHO = re.compile(r"^echo (.*)$", re.MULTILINE)


class Booted(msgspec.Struct, kw_only=True):
    """How far a boot came. ``tftp``: bytes of the boot loader; ``script``: what was given; ``words``: kernel words.

    ``root``: bytes of the root image, ``sha256`` what they are.
    """

    address: str = ""
    file: str = ""
    tftp: int = 0
    script: str = ""
    words: dict[str, str] = {}
    root: int = 0
    sha256: str = ""

    @property
    def said(self) -> str:
        """What the last script prints."""
        return "; ".join(ECHO.findall(self.script))


def boot(uuid: str, mac: str, *, efi: bool = False, firmware: bool = True, load: bool = True) -> Booted:
    """Boot as far as it goes. ``firmware``: fetch iPXE by TFTP first, as a machine without it does. Raises: OSError."""
    came = find(uuid, mac, efi=efi, firmware=firmware)
    if came.address:
        follow(came, uuid, mac, efi=efi)
    if came.words and load:
        fetch_files(came)
    return came


def find(uuid: str, mac: str, *, efi: bool = False, firmware: bool = True) -> Booted:
    """Ask for an address and take it, as firmware and then as iPXE; nothing is in it if nobody answers."""
    came = Booted()
    for ipxe in (False, True) if firmware else (True,):
        address, server, file = lease(uuid, mac, ipxe=ipxe, arch=7 if efi else 0)
        came.address, came.file = address, file
        if not address:
            return came
        _ip("addr", "flush", "dev", INTERFACE)
        _ip("addr", "add", f"{address}/24", "dev", INTERFACE)
        if not ipxe:
            came.tftp = tftp(server, file)
    return came


def follow(came: Booted, uuid: str, mac: str, *, efi: bool = False) -> None:
    """Follow the scripts from the one that DHCP named. Raises: OSError."""
    settings = {
        "uuid": uuid,
        "mac:hexhyp": mac.replace(":", "-"),
        "serial:uristring": "S1",
        "platform": "efi" if efi else "pcbios",
    }
    came.script = fetch(came.file).decode(errors="replace")
    for _ in range(SCRIPTS_MAX):
        chained = re.search(r"^chain (?:--replace )?(\S+)", came.script, re.MULTILINE)
        if chained is None:
            break
        pause = re.search(r"^sleep (\d{1,2})$", came.script, re.MULTILINE)
        time.sleep(int(pause[1]) if pause else 0)  # as the script says
        filled = re.sub(r"\$\{([^}]+)\}", lambda found: quote(settings[found[1]]), chained[1])
        came.script = fetch(filled).decode(errors="replace")
    kernel = re.search(r"^kernel (\S+) (.*?) \|\|", came.script, re.MULTILINE)
    if kernel is not None:
        came.file = kernel[1]
        came.words = dict(word.split("=", 1) for word in kernel[2].split() if "=" in word)


def fetch_files(came: Booted) -> None:
    """Fetch kernel, initrd and root image of the script. Raises: OSError."""
    for name in FILES:
        data = fetch(came.file.replace(FILES[0], name))
    came.root, came.sha256 = len(data), hashlib.sha256(data).hexdigest()


def lease(uuid: str, mac: str, *, ipxe: bool, arch: int = 0, seconds: float = ASK_S) -> tuple[str, str, str]:
    """Ask for an address: it, the server and the file to boot; "" each if nobody answers."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    options = {55: bytes([1, 3, 6, 43, 60, 66, 67, 175]), 60: b"PXEClient:Arch:%05d:UNDI:002001" % arch}
    options |= {93: struct.pack("!H", arch), 94: b"\1\2\1", 97: b"\0" + UUID(uuid).bytes_le}
    if ipxe:
        options[175] = b"\xb1\x05\x01\x1a\xf4\x10\x00"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        link.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, INTERFACE.encode() + b"\0")
        link.bind(("0.0.0.0", 68))
        link.settimeout(seconds)
        try:
            offer = _ask(link, hardware, {53: bytes([DISCOVER]), **options}, seconds)
            request = {53: bytes([REQUEST]), 50: offer[16:20], 54: _options(offer)[54], **options}
            answer = _ask(link, hardware, request, seconds)
        except TimeoutError:
            return "", "", ""
    said = _options(answer)
    if said.get(53) != bytes([ACK]):
        return "", "", ""
    file = said.get(67) or answer[108:236]
    return socket.inet_ntoa(answer[16:20]), socket.inet_ntoa(said[54]), file.rstrip(b"\0").decode()


def _ask(link: socket.socket, hardware: bytes, options: dict[int, bytes], seconds: float) -> bytes:
    number = secrets.randbits(32)
    head = struct.pack("!BBBBIHHIIII", 1, 1, 6, 0, number, 0, 0x8000, 0, 0, 0, 0) + hardware + bytes(10 + 192) + COOKIE
    words = b"".join(bytes([number, len(value)]) + value for number, value in options.items())
    link.sendto((head + words + b"\xff").ljust(300, b"\0"), ("255.255.255.255", 67))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        packet = link.recv(PACKET_BYTES_MAX)
        if packet[4:8] == number.to_bytes(4, "big") and packet[28:34] == hardware:
            return packet
    raise TimeoutError


def _options(packet: bytes) -> dict[int, bytes]:
    found, at = {}, 240
    while at + 1 < len(packet) and packet[at] != 255:
        if packet[at] == 0:
            at += 1
            continue
        size = packet[at + 1]
        found[packet[at]] = packet[at + 2 : at + 2 + size]
        at += 2 + size
    return found


def tftp(server: str, file: str) -> int:
    """Fetch a file by TFTP; its size. Raises: OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(2.0)
        link.sendto(struct.pack("!H", 1) + file.encode() + b"\0octet\0", (server, TFTP_PORT))
        size = 0
        for _ in range(TFTP_BLOCKS_MAX):
            packet, peer = link.recvfrom(PACKET_BYTES_MAX)
            if packet[:2] != b"\0\3":
                raise OSError(packet[4:].decode(errors="replace"))
            link.sendto(b"\0\4" + packet[2:4], peer)
            size += len(packet) - 4
            if len(packet) - 4 < TFTP_BLOCK:
                return size
    raise OSError(f"{file}: no end after {TFTP_BLOCKS_MAX} blocks")


def fetch(url: str) -> bytes:
    """Fetch a URL, following where it sends us. Raises: OSError."""
    for _ in range(REDIRECTS_MAX):
        parts = urlsplit(url)
        link = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=HTTP_S)
        try:
            link.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
            answer = link.getresponse()
            if answer.status == 302:
                url = answer.headers["Location"]
                continue
            if answer.status != 200:
                raise OSError(f"{url}: {answer.status}")
            return answer.read(FILE_BYTES_MAX)
        except http.client.HTTPException as error:
            raise OSError(f"{url}: {type(error).__name__}") from error
        finally:
            link.close()
    raise OSError(f"{url}: sent around")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


if __name__ == "__main__":
    its_uuid, its_mac, *more = sys.argv[1:]
    found = boot(its_uuid, its_mac, efi="efi" in more, firmware="ipxe" not in more, load="script" not in more)
    print(json.dumps(msgspec.to_builtins(found)))
