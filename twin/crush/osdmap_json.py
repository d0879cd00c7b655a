"""Reading an OSD map from the JSON of ``ceph osd dump`` and ``ceph osd crush dump``."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeGuard

from core.errors import InputError
from formats.problems import Problems, one_of, show
from twin.crush.crush_json import crush_from_json
from twin.crush.map import ONE, CrushMap
from twin.crush.osdmap import OsdMap, OsdState, Pool

_OSD_ID_MAX = 1 << 20
_PG_NUM_MAX = 1 << 22
_SIZE_MAX = 256
_POOL_ID_MAX = 1 << 40
_HASHPSPOOL = 1
_RJENKINS = 2
_KINDS: dict[int, Literal["replicated", "erasure"]] = {1: "replicated", 3: "erasure"}
_PGID = re.compile(r"([0-9]+)\.([0-9a-f]+)")
_OSD_DUMP = "osd_dump.json"
_CRUSH_DUMP = "osd_crush_dump.json"


def osdmap_from_json(
    osd_dump: object, crush_dump: object, where: str | tuple[str, str] = (_OSD_DUMP, _CRUSH_DUMP)
) -> OsdMap:
    """Make an OSD map of parsed ``ceph osd dump`` and ``ceph osd crush dump`` output.

    ``where``: what problems name as their file, one for each of the two, or one for both.

    Raises: InputError with every field that is missing, foreign, or contradicts another one.
    """
    osd_file, crush_file = (where, where) if isinstance(where, str) else where
    problems = Problems(osd_file)
    crush = CrushMap(devices=(), types={}, buckets=(), rules=())
    try:
        crush = crush_from_json(crush_dump, crush_file)
    except InputError as error:
        problems.take(error)
    if not _is_table(osd_dump):
        problems.say(f"this is {show(osd_dump)}; needed: the JSON object that `ceph osd dump -f json` prints")
        problems.check()
    top = _Table(osd_dump if _is_table(osd_dump) else {}, "", problems)
    max_osd = top.whole("max_osd", 0, _OSD_ID_MAX)
    osds = tuple(_osd(table, max_osd) for table in top.tables("osds"))
    pools = tuple(_pool(table, top) for table in top.tables("pools"))
    _check_ids([osd.id for osd in osds], "osds", "osd", problems)
    _check_ids([pool.id for pool in pools], "pools", "pool", problems)
    _check_rules(pools, crush, problems, crush_file)
    by_id = {pool.id: pool for pool in pools}
    upmaps = {pg: _upmap(table, by_id[pg[0]]) for table in top.tables("pg_upmap") if (pg := _pg(table, by_id))}
    items = {pg: _pairs(table) for table in top.tables("pg_upmap_items") if (pg := _pg(table, by_id))}
    made = OsdMap(
        epoch=top.whole("epoch", 0, 1 << 32),
        crush=crush,
        osds=tuple(sorted(osds, key=lambda osd: osd.id)),
        pools=tuple(sorted(pools, key=lambda pool: pool.id)),
        upmaps=upmaps,
        upmap_items=items,
        nearfull_ratio=top.ratio("nearfull_ratio"),
        backfillfull_ratio=top.ratio("backfillfull_ratio"),
        full_ratio=top.ratio("full_ratio"),
        max_osd=max_osd,
    )
    problems.check()
    return made


class _Table(NamedTuple):
    """One JSON object, and where it stands; each reading notes its problem and goes on with a harmless value."""

    values: Mapping[str, object]
    key: str
    problems: Problems

    def at(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name

    def get(self, name: str, wanted: str) -> object:
        """The value, or None with a problem noted where it is missing."""
        if name not in self.values:
            self.problems.say(f"{self.at(name)} is missing; needed: {wanted}")
            return None
        return self.values[name]

    def whole(self, name: str, low: int, high: int) -> int:
        wanted = f"a whole number from {low} to {high}"
        value = self.get(name, wanted)
        if type(value) is int and low <= value <= high:
            return value
        if name in self.values:
            self.problems.add(self.at(name), value, f"allowed: {wanted}")
        return low

    def ratio(self, name: str) -> float:
        wanted = "a number from 0 to 1"
        value = self.get(name, wanted)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return round(float(value), 6)  # Ceph keeps single precision: 0.85 is dumped as 0.85000002384185791
        if name in self.values:
            self.problems.add(self.at(name), value, f"allowed: {wanted}")
        return 1.0

    def fixed(self, name: str) -> int:
        """A weight from 0 to 1 that is dumped as a decimal fraction, in 16.16 again."""
        wanted = "a number from 0 to 1"
        value = self.get(name, wanted)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            return round(value * ONE)
        if name in self.values:
            self.problems.add(self.at(name), value, f"allowed: {wanted}")
        return ONE

    def text(self, name: str) -> str:
        value = self.get(name, "a string")
        if isinstance(value, str):
            return value
        if name in self.values:
            self.problems.add(self.at(name), value, "allowed: a string")
        return ""

    def tables(self, name: str) -> list["_Table"]:
        """An array of objects."""
        found = []
        for index, value in enumerate(self.array(name)):
            key = f"{self.at(name)}[{index}]"
            if _is_table(value):
                found.append(_Table(value, key, self.problems))
            else:
                self.problems.add(key, value, "allowed: an object")
        return found

    def array(self, name: str) -> list[object]:
        value = self.get(name, "an array")
        if isinstance(value, list):
            return value
        if name in self.values:
            self.problems.add(self.at(name), value, "allowed: an array")
        return []


def _is_table(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)


def _osd(table: _Table, max_osd: int) -> OsdState:
    return OsdState(
        id=table.whole("osd", 0, max(0, max_osd - 1)),
        up=table.whole("up", 0, 1) == 1,
        reweight=table.fixed("weight"),
        primary_affinity=table.fixed("primary_affinity"),
    )


def _pool(table: _Table, top: _Table) -> Pool:
    kind = table.values.get("type")
    if type(kind) is not int or kind not in _KINDS:
        known = "1 (replicated), 3 (erasure)"
        if "type" in table.values:
            table.problems.add(table.at("type"), kind, f"allowed: {known}")
        else:
            table.problems.say(f"{table.at('type')} is missing; needed: {known}")
        kind = 1
    if table.values.get("object_hash", _RJENKINS) != _RJENKINS:
        table.problems.add(table.at("object_hash"), table.values["object_hash"], f"allowed: {_RJENKINS} (rjenkins)")
    size = table.whole("size", 1, _SIZE_MAX)
    return Pool(
        id=table.whole("pool", 0, _POOL_ID_MAX),
        name=table.text("pool_name"),
        kind=_KINDS[kind],
        size=size,
        min_size=table.whole("min_size", 0, size),
        pg_num=table.whole("pg_num", 1, _PG_NUM_MAX),
        pgp_num=table.whole("pg_placement_num", 1, _PG_NUM_MAX),
        rule=table.whole("crush_rule", 0, 255),
        data_shards=_data_shards(table, top, size) if _KINDS[kind] == "erasure" else 1,
        hashpspool=table.whole("flags", 0, 1 << 64) & _HASHPSPOOL != 0,
    )


def _data_shards(table: _Table, top: _Table, size: int) -> int:
    """The profile's k, which ``ceph osd dump`` prints as text."""
    name = table.text("erasure_code_profile")
    profiles = top.get("erasure_code_profiles", "an object of profiles")
    profile = profiles.get(name) if _is_table(profiles) else None
    if not _is_table(profile):
        names = one_of(profiles) if _is_table(profiles) else "there are none"
        table.problems.add(
            table.at("erasure_code_profile"), name, f"allowed: a profile of erasure_code_profiles: {names}"
        )
        return 1
    shards = profile.get("k")
    key = f"erasure_code_profiles.{name}.k"
    if shards is None:
        table.problems.say(f"{key} is missing; needed: a whole number from 1 to {size}")
    elif not (isinstance(shards, str | int) and re.fullmatch("[0-9]{1,3}", str(shards)) and 1 <= int(shards) <= size):
        table.problems.add(key, shards, f"allowed: a whole number from 1 to {size}")
    else:
        return int(shards)
    return 1


def _check_ids(ids: list[int], key: str, name: str, problems: Problems) -> None:
    for index, number in enumerate(ids):
        if number in ids[:index]:
            problems.add(f"{key}[{index}].{name}", number, "it is there twice; allowed: each once")


def _check_rules(pools: tuple[Pool, ...], crush: CrushMap, problems: Problems, crush_file: str) -> None:
    rules = {rule.id for rule in crush.rules}
    for index, pool in enumerate(pools):
        if rules and pool.rule not in rules:
            names = ", ".join(map(str, sorted(rules)))
            problems.add(f"pools[{index}].crush_rule", pool.rule, f"allowed: a rule_id of {crush_file}: {names}")


def _pg(table: _Table, pools: Mapping[int, Pool]) -> tuple[int, int] | None:
    """The placement group that an exception is about; None, with a problem noted, if it is none of a pool's."""
    text = table.text("pgid")
    match = _PGID.fullmatch(text[:40])
    pool = pools.get(int(match[1])) if match else None
    if match and pool and int(match[2], 16) < pool.pg_num:
        return pool.id, int(match[2], 16)
    table.problems.add(table.at("pgid"), text, "allowed: POOL.PG (hexadecimal) of a pool of this map")
    return None


def _upmap(table: _Table, pool: Pool) -> tuple[int, ...]:
    osds = [_osd_id(value, f"{table.at('osds')}[{i}]", table) for i, value in enumerate(table.array("osds"))]
    if len(osds) > pool.size:
        table.problems.add(table.at("osds"), osds, f"allowed: at most {pool.size}, the size of pool {pool.id}")
    return tuple(osds)


def _pairs(table: _Table) -> tuple[tuple[int, int], ...]:
    return tuple((_end(pair, "from"), _end(pair, "to")) for pair in table.tables("mappings"))


def _end(pair: _Table, name: str) -> int:
    value = pair.get(name, "an OSD id")
    return _osd_id(value, pair.at(name), pair) if name in pair.values else 0


def _osd_id(value: object, key: str, table: _Table) -> int:
    if type(value) is int and -(1 << 31) <= value < 1 << 31:
        return value
    table.problems.add(key, value, "allowed: an OSD id")
    return 0
