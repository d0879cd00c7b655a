"""Binary OSD maps for osdmaptool: made by itself, then changed in places for which it has no option."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twin.crush.osdmap import OsdMap
from twin.crush.osdmap_json import osdmap_from_json

_WRAPPER = 6
"""Bytes of an encoding's head: version, compatible version, length."""
_CRC_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class PoolWanted:
    """What the one pool is to be."""

    kind: int = 1
    size: int = 3
    rule: int = 0
    pg_num: int = 512
    pgp_num: int = 512
    hashpspool: bool = True


def run(folder: Path, *words: str) -> str:
    """What a tool prints."""
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout


def make(folder: Path, crush: Path, osds: int, pool: PoolWanted, affinity: list[int] | None = None) -> Path:
    """Make ``folder/osdmap`` with a CRUSH map, a pool, and primary affinities (16.16) if wanted."""
    bits = ("--pg-bits", "0", "--pgp-bits", "0")
    run(folder, "osdmaptool", "--createsimple", str(osds), "osdmap", "--clobber", "--with-default-pool", *bits)
    run(folder, "osdmaptool", "osdmap", "--import-crush", str(crush))
    path = folder / "osdmap"
    content = bytearray(path.read_bytes())
    _set_pool(content, pool)
    if affinity is not None:
        _set_affinity(content, crush.read_bytes(), affinity)
    content[-_CRC_BYTES:] = crc32c(bytes(content[:-_CRC_BYTES])).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def _set_pool(content: bytearray, pool: PoolWanted) -> None:
    """Type, size, rule, hash, pg_num, pgp_num stand one after the other, and the flags behind a fixed gap."""
    (found,) = re.finditer(rb"\x01\x03[\x00-\x0f]\x02(....)\1", bytes(content), re.S)
    head = bytes([pool.kind, pool.size, pool.rule, 2])
    content[found.start() : found.end()] = head + pool.pg_num.to_bytes(4, "little") + pool.pgp_num.to_bytes(4, "little")
    flags = content.index((1).to_bytes(8, "little"), found.end())
    content[flags : flags + 8] = int(pool.hashpspool).to_bytes(8, "little")


def _set_affinity(content: bytearray, crush: bytes, affinity: list[int]) -> None:
    """Write the list of affinities, empty until now, in front of the CRUSH map, and lengthen what holds it."""
    places = [at.start() for at in re.finditer(re.escape(crush[:16]), bytes(content))]
    (start,) = places
    count = start - 8
    assert content[count : count + 4] == bytes(4)
    listed = np.array([len(affinity), *affinity], "<u4").tobytes()
    content[count : count + 4] = listed
    for wrapper in (0, _WRAPPER):
        at = wrapper + 2
        longer = int.from_bytes(content[at : at + 4], "little") + len(listed) - 4
        content[at : at + 4] = longer.to_bytes(4, "little")


def crc32c(content: bytes) -> int:
    """Castagnoli's checksum as Ceph uses it: from all ones, not inverted at the end."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def read(folder: Path, *options: str) -> OsdMap:
    """Read the map as osdmaptool dumps it with these options in force, and its CRUSH map."""
    text = run(folder, "osdmaptool", "osdmap", *options, "--dump", "json", "--export-crush", "crush.out")
    dump = json.loads(text[text.index("{") : text.rindex("}") + 1])
    for pool in dump["pools"]:
        pool["erasure_code_profile"] = "default"
    dump["erasure_code_profiles"] = {"default": {"k": "1"}}
    crush = folder / "crush.json"
    crush.write_text(run(folder, "crushtool", "-i", "crush.out", "--dump"))
    return osdmap_from_json(dump, json.loads(crush.read_text()))


def placed_by_tool(folder: Path, *options: str) -> dict[int, tuple[list[int], int]]:
    """The up set and primary of each placement group of pool 1."""
    text = run(folder, "osdmaptool", "osdmap", *options, "--test-map-pgs-dump", "--pool", "1")
    rows = re.findall(r"^1\.([0-9a-f]+)\t\[([-0-9,]*)\]\t(-?[0-9]+)$", text, re.M)
    return {int(pg, 16): ([int(osd) for osd in up.split(",") if osd], int(primary)) for pg, up, primary in rows}
