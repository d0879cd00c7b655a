"""What an operator's changes do to a map: ids, weights, shadows, weight-sets, and what is refused."""

import json
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from twin.crush.edit import (
    add_bucket,
    add_host,
    add_osds,
    change_failure_domain,
    crush_weight,
    move_bucket,
    remove_bucket,
    remove_osds,
    reweight_device,
    set_class,
    set_out,
    set_reweight,
    set_up,
)
from twin.crush.map import ONE, Bucket, Choose, ChooseArgs
from twin.crush.osdmap import OsdMap
from twin.crush.osdmap_json import osdmap_from_json
from twin.crush.pools import osd_pgs, place

FIVE = Path(__file__).parents[2] / "racks/five-hosts"


@pytest.fixture(scope="module")
def five() -> OsdMap:
    osd_dump, crush_dump = (json.loads((FIVE / f"{name}.json").read_text()) for name in ("osd_dump", "osd_crush_dump"))
    return osdmap_from_json(osd_dump, crush_dump)


def named(osdmap: OsdMap) -> dict[str, Bucket]:
    return {bucket.name: bucket for bucket in osdmap.crush.buckets}


def test_the_sixth_host_gets_the_ids_that_ceph_gives(five: OsdMap) -> None:
    grown = add_host(five, "host5", [("hdd", crush_weight(4 << 30))], "default")
    made = named(grown)
    assert (made["host5"].id, made["host5~hdd"].id) == (-13, -14)
    assert (made["host5"].items, made["host5"].weights) == ((5,), (255,))
    assert made["default"].items[-1] == -13
    assert made["default~hdd"].items[-1] == -14
    assert made["default"].weight == made["default~hdd"].weight == 6 * 255
    assert [osd.id for osd in grown.osds] == [0, 1, 2, 3, 4, 5]
    assert grown.max_osd == 6
    assert grown.epoch == five.epoch + 1
    assert osd_pgs([place(grown, 1)]) == {0: 35, 1: 30, 2: 38, 3: 31, 4: 31, 5: 27}


def test_a_new_class_gets_its_shadows_before_the_host_gets_its_id(five: OsdMap) -> None:
    made = named(add_host(five, "host5", [("ssd", 255)], "default"))
    shadows = [made[name].id for name in ("host4~ssd", "host3~ssd", "host2~ssd", "host1~ssd", "host0~ssd")]
    assert sorted([*shadows, made["default~ssd"].id]) == list(range(-18, -12))
    assert made["host5"].id == -19
    assert (made["host5~hdd"].id, made["host5~ssd"].id) == (-20, -21)
    assert made["host5~hdd"].items == ()
    assert made["default~ssd"].weight == 255


def test_what_comes_back_gets_its_old_ids(five: OsdMap) -> None:
    without = remove_bucket(five, "host1")
    assert named(without)["default"].weight == 4 * 255
    assert [osd.id for osd in without.osds] == [0, 2, 3, 4]
    again = add_host(without, "host1", [("hdd", 255)], "default")
    assert (named(again)["host1"].id, named(again)["host1~hdd"].id) == (-5, -6)
    assert again.osds[1].id == 1


def test_weights_add_up_to_the_root(five: OsdMap) -> None:
    more = add_osds(five, "host2", [("hdd", 511), ("hdd", 1)])
    assert named(more)["host2"].items == (2, 5, 6)
    assert named(more)["default~hdd"].weight == named(more)["default"].weight == 5 * 255 + 512
    assert named(reweight_device(more, 5, 0))["default"].weight == 5 * 255 + 1
    assert named(remove_osds(more, [5, 6])) == named(five)


def test_a_host_moves_to_a_rack_and_counts_there(five: OsdMap) -> None:
    racked = move_bucket(add_bucket(five, "r1", "rack", "default"), "host3", "r1")
    made = named(racked)
    assert made["r1"].items == (made["host3"].id,) == (-11,)
    assert made["default"].weights[-1] == 255
    assert made["default"].weight == 5 * 255
    assert move_bucket(racked, "host3", "r1") == racked


def test_the_weight_of_a_moved_bucket_is_carried_as_a_float(five: OsdMap) -> None:
    heavy = reweight_device(five, 3, (1 << 24) + 1)
    made = named(move_bucket(add_bucket(heavy, "r1", "rack", "default"), "host3", "r1"))
    assert made["host3"].weight == (1 << 24) + 1
    assert made["r1"].weight == 1 << 24


def test_weight_sets_follow_the_weights(five: OsdMap) -> None:
    root = named(five)["default"]
    rows = ((100,) * 5,)
    crush = msgspec.structs.replace(five.crush, choose_args={"-1": (ChooseArgs(bucket=root.id, weight_sets=rows),)})
    grown = add_host(msgspec.structs.replace(five, crush=crush), "host5", [("hdd", 255)], "default")
    made = {one.bucket: one.weight_sets for one in grown.crush.choose_args["-1"]}
    assert made[-1] == made[-2] == ((255,) * 6,)
    assert made[-13] == made[-14] == ((255,),)


def test_the_failure_domain_changes_by_a_new_rule(five: OsdMap) -> None:
    spread = change_failure_domain(five, 1, "osd")
    assert [rule.name for rule in spread.crush.rules] == ["replicated_rule", "replicated_rule-osd"]
    assert spread.crush.rules[0] == five.crush.rules[0]
    (choose,) = (step for step in spread.crush.rules[1].steps if isinstance(step, Choose))
    assert (choose.how, choose.type_id) == ("chooseleaf_firstn", 0)
    assert spread.pools[0].rule == 1
    assert change_failure_domain(spread, 1, "osd").crush.rules == spread.crush.rules
    assert change_failure_domain(spread, 1, "host").pools[0].rule == 0


def test_states_change_one_by_one(five: OsdMap) -> None:
    assert [osd.reweight for osd in set_out(five, [1, 3]).osds] == [ONE, 0, ONE, 0, ONE]
    assert set_reweight(five, [0], ONE // 2).osds[0].reweight == ONE // 2
    assert [osd.up for osd in set_up(five, [4], up=False).osds] == [True] * 4 + [False]
    classes = {device.id: device.device_class for device in set_class(five, [2], "ssd").crush.devices}
    assert classes == {0: "hdd", 1: "hdd", 2: "ssd", 3: "hdd", 4: "hdd"}


def test_what_does_not_exist_is_refused_by_name(five: OsdMap) -> None:
    refused = (
        (lambda: add_host(five, "host1", [], "default"), "there is one already"),
        (lambda: add_host(five, "host9", [], "defualt"), 'did you mean "default"'),
        (lambda: add_osds(five, "host9", [("hdd", 1)]), 'host = "host9"'),
        (lambda: add_bucket(five, "r1", "rakc", "default"), 'did you mean "rack"'),
        (lambda: remove_osds(five, [1, 77]), "osd.77: no such OSD"),
        (lambda: remove_bucket(five, "default"), "a rule starts"),
        (lambda: move_bucket(five, "default", "host1"), "cannot be put below itself"),
        (lambda: reweight_device(five, 1, -1), "weight = -1"),
        (lambda: set_reweight(five, [1], ONE + 1), "reweight = 65537"),
        (lambda: change_failure_domain(five, 9, "host"), "pool = 9"),
        (lambda: change_failure_domain(five, 1, "hots"), 'failure domain = "hots"'),
    )
    for change, words in refused:
        with pytest.raises(InputError, match=words):
            change()


def test_an_osd_weighs_what_it_says_of_itself() -> None:
    assert crush_weight(4 << 30) == 255
    assert crush_weight(4_000_787_030_016) == int(3.6387 * ONE)
    assert crush_weight(0) == 0
