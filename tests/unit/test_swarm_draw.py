"""What campaigns are drawn: the same from the same seed, valid, fair, and independent of what is drawn for others."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from core.specs import Timing
from formats.catalog import load_catalog
from formats.problems import Problems
from formats.rack import load_rack
from formats.synthetic import SyntheticRack
from trial import targets
from trial.targets import Target
from twin.faults import FAULTS
from twin.streams import Stream, Streams
from twin.swarm.attempt import attempt
from twin.swarm.dice import Dice, firsts_below
from twin.swarm.draw import draw, in_words, make_menu
from twin.swarm.kinds import KindTable, Struck, load_menu, make_kind
from twin.swarm.profile import PROFILES, Profile, load_profile
from twin.swarm.stage import Stage, set_stage
from twin.swarm.strikes import cast, components_of, faults_of
from twin.swarm.tape import Table, Tape, to_scenario, to_toml
from twin.world.world import World

DRAWS = 1_000
SEEDS = range(30)


def tapes(profile: str, seeds: range = SEEDS) -> list[Tape]:
    """Campaigns of a profile that comes along."""
    menu = make_menu(profile)
    return [draw(seed, menu) for seed in seeds]


def written(text: str, folder: Path) -> str:
    """Write a profile file."""
    file = folder / "mine.toml"
    file.write_text("# Why: a test.\nfaults = [1, 5]\n" + text, encoding="utf-8")
    return str(file)


def test_a_seed_always_gives_the_same_campaign() -> None:
    menu = make_menu("everything")
    forwards = [to_toml(draw(seed, menu)) for seed in SEEDS]
    backwards = [to_toml(draw(seed, make_menu("everything"))) for seed in reversed(SEEDS)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(SEEDS)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_campaign_is_a_scenario(profile: str) -> None:
    for tape in tapes(profile):
        scenario = to_scenario(tape)
        assert len(scenario.faults) == len(tape.fault)
        assert 3 <= sum(server.plugged for server in scenario.rack.nodes) <= 9


def test_every_kind_of_fault_is_on_the_menu_of_everything_or_kept_out_with_a_reason() -> None:
    profile = load_profile("everything")
    kept_out = profile.tables.excluded
    assert set(profile.kinds) | set(kept_out) == set(FAULTS)
    assert not set(profile.kinds) & set(kept_out)
    assert all(kept_out.values())
    drawn = Counter(str(fault["kind"]) for tape in tapes("everything", range(800)) for fault in tape.fault)
    assert sorted(set(profile.kinds) - set(drawn)) == []


def test_every_plot_is_told_in_everything() -> None:
    assert {plot.name for plot in load_profile("everything").plots} == {plot.name for plot in load_menu().plot}


def test_what_is_held_back_says_why() -> None:
    for name, table in load_menu().kind.items():
        if table.nodes_max or not table.volumeless:
            assert table.fair, name


def test_campaigns_differ_in_everything_that_is_drawn() -> None:
    drawn = tapes("everything", range(300))
    racks = [tape.rack for tape in drawn if isinstance(tape.rack, SyntheticRack)]
    assert {rack.nodes for rack in racks} >= {3, 4, 5, 6}
    assert Counter(rack.nodes for rack in racks).most_common(2)[0][0] in (3, 5)
    assert {rack.pdus_per_rack for rack in racks} == {1, 2, 3}
    assert {rack.single_homed for rack in racks} == {rack.pdus_uneven for rack in racks} == {False, True}
    assert {bool(rack.spares) for rack in racks} == {False, True}
    assert {tape.start for tape in drawn} == {"warm", "first", "dark"}
    assert {bool(tape.timing) for tape in drawn} == {bool(tape.services) for tape in drawn} == {False, True}
    assert len({tape.catalog for tape in drawn}) > 1
    kinds = Counter(kind for tape in drawn for kind in {str(fault["kind"]) for fault in tape.fault})
    assert max(kinds.values()) < len(drawn) / 2, "no kind is in every campaign (swarm testing)"


def test_many_faults_come_close_together() -> None:
    near = total = 0
    for tape in tapes("everything", range(200)):
        times = [int(str(fault["at_ms"])) for fault in tape.fault]
        total += len(times)
        near += sum(1 for a, b in pairwise(times) if b - a < 10_000)
    assert near > total / 8


# -- independence ------------------------------------------------------------------------------------------------------


def stages() -> tuple[Profile, Stage, Stage]:
    """A profile whose campaigns have thousands of faults for every component, and two stages: one has a node more."""
    everything = load_profile("everything")
    for_ever = 10**12
    tables = msgspec.structs.replace(everything.tables, duration_ms=for_ever, kinds_share=1.0)
    profile = msgspec.structs.replace(everything, tables=tables)
    stage = set_stage(1, everything, Path("racks/six.toml"), Path("catalog/minimal.toml"))
    return profile, msgspec.structs.replace(stage, nodes=stage.nodes[:4]), stage


def by_component(faults: list[Table], kind: str) -> dict[str, list[Table]]:
    """The faults of one kind by what they strike."""
    found: dict[str, list[Table]] = {}
    for fault in faults:
        if fault["kind"] == kind:
            found.setdefault(str(fault.get("target", "")), []).append(fault)
    return found


@pytest.mark.parametrize(
    ("kind", "struck"),
    [
        ("power_loss", "node"),
        ("partition", "role"),
        ("service_crash", "node"),
        ("switch_loss", "switch"),
        ("storage_stall", "none"),
    ],
)
def test_a_node_more_leaves_the_first_thousand_faults_of_all_others_as_they_were(kind: str, struck: Struck) -> None:
    profile, small, large = stages()
    tables = msgspec.structs.replace(profile.tables, plots_share=0.0, faults=(12_000, 12_000))
    only = msgspec.structs.replace(profile.kinds[kind], strikes={struck: 1.0})
    alone = msgspec.structs.replace(profile, kinds={kind: only}, plots=(), tables=tables)
    before, after = (by_component(faults_of(7, alone, stage, cast(7, alone, stage)), kind) for stage in (small, large))
    assert before
    for component, faults in before.items():
        assert len(faults) >= DRAWS, component
        first, again = faults[:DRAWS], after[component][:DRAWS]
        for fault, other in zip(first, again, strict=True):
            if "away_from" in fault:
                kept = [node for node in other["away_from"] if node in small.nodes]  # type: ignore[attr-defined]
                assert fault["away_from"] == kept
            else:
                assert fault == {key: value for key, value in other.items() if key != "away_from"}
    assert set(after) - set(before) <= set(large.nodes)


def test_a_node_more_leaves_the_plots_around_all_others_as_they_were() -> None:
    profile, small, large = stages()
    tables = msgspec.structs.replace(profile.tables, plots_share=1.0, faults=(3_000, 3_000))
    told = msgspec.structs.replace(profile, tables=tables)
    before, after = (faults_of(7, told, stage, cast(7, told, stage)) for stage in (small, large))
    plain = [name for name, kind in told.kinds.items() if not kind.nodes_max and name != "partition"]
    drawn = Counter(repr(fault) for fault in before if fault["kind"] in plain)
    assert drawn.total() >= DRAWS
    assert not drawn - Counter(map(repr, after))


def test_a_node_more_leaves_the_first_thousand_draws_of_the_world_as_they_were() -> None:
    catalog = load_catalog(Path("catalog/minimal.toml"))
    rack = load_rack(Path("racks/six.toml"))
    names = []
    for count in (5, 6):
        nodes = tuple(msgspec.structs.replace(server, plugged=True) for server in rack.nodes[:count])
        world = World(msgspec.structs.replace(rack, nodes=nodes), catalog, seed=3)
        asked: list[str] = []
        get = world.streams.get

        def recorded(name: str, get: object = get, asked: list[str] = asked) -> Stream:
            asked.append(name)
            return get(name)  # type: ignore[operator,no-any-return]

        world.streams.get = recorded  # type: ignore[method-assign]
        world.start()
        world.run_until(5_000)
        names.append({*asked, *world.streams._streams})
    small, large = names
    assert len(small) > 20
    assert small <= large
    assert all("n6" in name for name in large - small), "streams are named after their consumer, never numbered"
    one, other = Streams(3), Streams(3)
    for name in sorted(large):
        other.get(name).word()
    for name in sorted(small):
        stream = one.get(name)
        first = [stream.word() for _ in range(DRAWS)]
        assert first == [Stream(3, name).word(), *first[1:]]
        assert first[1:] == [other.get(name).word() for _ in range(DRAWS - 1)]


def test_the_first_draw_of_a_stream_says_whether_it_strikes() -> None:
    names = [f"n{index}" for index in range(2_000)]
    below = firsts_below(5, "campaign/power_loss", names, 0.25)
    assert below == [name for name in names if Dice(5, f"campaign/power_loss/{name}").uniform() < 0.25]
    assert 400 < len(below) < 600


def test_dice_are_fair() -> None:
    dice = Dice(1, "fair")
    counts = Counter(dice.integers(0, 6) for _ in range(6_000))
    assert set(counts) == set(range(6))
    assert all(850 < count < 1_150 for count in counts.values())
    decades = Counter(len(str(dice.log_uniform(10, 99_999))) for _ in range(4_000))
    assert all(850 < decades[digits] < 1_150 for digits in (2, 3, 4, 5))
    assert Counter(dice.weighted({"a": 3, "b": 0, "c": 1}) for _ in range(1_000)).keys() == {"a", "c"}


# -- fairness ----------------------------------------------------------------------------------------------------------


def flat(terms: tuple[Target, ...]) -> list[str]:
    """The kinds of all terms of a target."""
    return [kind for term in terms for kind in (term.kind, *flat(term.inner))]


def test_no_target_is_drawn_when_the_fault_strikes() -> None:
    for profile in PROFILES:
        for tape in tapes(profile):
            for fault in tape.fault:
                kinds = flat(targets.parse(str(fault["target"]))) if "target" in fault else []
                assert not {"one", "follower"} & set(kinds)


def test_sessions_are_not_expired_early_where_a_service_without_a_volume_trusts_them() -> None:
    expired = 0
    for profile in ("default", "partitions", "storage", "everything"):
        for tape in tapes(profile, range(150)):
            if any(fault["kind"] == "session_expiry" for fault in tape.fault):
                expired += 1
                specs = to_scenario(tape).catalog.specs
                assert all(spec.volume for spec in specs if spec.run == "singleton")
    assert expired


def test_neither_data_nor_the_rack_is_lost_for_good() -> None:
    seen = Counter[str]()
    for profile in ("default", "storage", "upgrade", "nightly"):
        for tape in tapes(profile, range(150)):
            nodes = tape.rack.nodes if isinstance(tape.rack, SyntheticRack) else 0
            retired = [fault["target"] for fault in tape.fault if fault["kind"] == "operator_retire"]
            broken = {fault["target"] for fault in tape.fault if fault["kind"] == "disk_failure"}
            assert len(set(retired)) == len(retired) < nodes / 2
            assert len(broken) <= 1
            seen.update(retired=len(retired), broken=len(broken))
    assert seen["retired"]
    assert seen["broken"]


def test_services_take_part_with_all_they_need_and_find_room() -> None:
    for tape in tapes("everything", range(200)):
        scenario = to_scenario(tape)
        specs = {spec.name: spec for spec in scenario.catalog.specs}
        assert all(need in specs for spec in specs.values() for need in spec.needs)
        large = [spec for spec in specs.values() if spec.cores > 16]
        assert len(large) <= max(1, sum(server.plugged for server in scenario.rack.nodes) - 2)


def test_timers_go_together() -> None:
    changed = [to_scenario(tape).timing for tape in tapes("everything", range(200)) if tape.timing]
    assert changed
    for timing in [*changed, Timing()]:
        assert 2 * timing.probe_ms < timing.fresh_ms
        assert 2 * timing.beat_ms <= timing.suspect_ms * 2 < timing.session_timeout_ms
        assert timing.commit_ms_max <= timing.session_timeout_ms
        assert timing.stall_ms > timing.fence_ms_max + timing.commit_ms_max
    assert min(timing.session_timeout_ms for timing in changed) >= 1_500
    assert max(timing.session_timeout_ms for timing in changed) <= 10_000


# -- what is given -----------------------------------------------------------------------------------------------------


def test_a_given_rack_and_catalog_are_those_of_every_campaign() -> None:
    menu = make_menu("everything", Path("racks/forty.toml"), Path("catalog/full.toml"))
    for seed in range(5):
        tape = draw(seed, menu)
        assert (tape.rack, tape.catalog, tape.services) == ("racks/forty.toml", "catalog/full.toml", ())
        assert len(to_scenario(tape).rack.nodes) == 40


def test_a_rack_that_is_not_there_is_an_input_error() -> None:
    with pytest.raises(InputError) as caught:
        make_menu("default", Path("racks/none.toml"), Path("catalog/none.toml"))
    assert len(caught.value.problems) == 2


def test_words_say_what_was_drawn() -> None:
    tape = Tape(
        why="words.",
        seed=1,
        rack=SyntheticRack(nodes=5, spares=1, per_rack=3, switches_per_rack=1, pdus_per_rack=3, pdus_uneven=True),
        catalog="catalog/minimal.toml",
        services=("ntp", "mariadb"),
        duration_ms=600_000,
        timing={"session_timeout_ms": 4_200},
        fault=(
            {"kind": "power_loss", "at_ms": 1, "target": "n1"},
            {"kind": "link_loss", "at_ms": 2, "target": "n1"},
            {"kind": "power_loss", "at_ms": 3, "target": "n2"},
        ),
    )
    assert in_words(tape) == (
        "5 nodes, 1 to come, 2 racks, 3 PDUs a rack (uneven), 1 switch a rack; 2 of 6 services of minimal.toml; "
        "start warm; session timeout 4,200 ms; 3 faults of 2 kinds: link_loss, power_loss 2"
    )


# -- profiles ----------------------------------------------------------------------------------------------------------


def test_a_user_writes_a_profile_of_his_own(tmp_path: Path) -> None:
    text = "kinds = { power_loss = 1 }\nplots = {}\n"
    text += "[kind.power_loss]\nstrikes = { role = 1 }\nkeys = { bmc_too = [true] }\n"
    menu = make_menu(written(text, tmp_path))
    assert menu.profile.name == "mine"
    faults = [fault for seed in SEEDS for fault in draw(seed, menu).fault]
    assert {fault["kind"] for fault in faults} == {"power_loss"}
    assert all(fault["bmc_too"] is True for fault in faults)
    assert not any(str(fault["target"]).startswith("n") for fault in faults)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kinds = { power_los = 1 }", "kinds.power_los = 1.0: no such name; allowed: agent_crash"),
        ("kinds = {}", "kinds: no kind of fault takes part"),
        ('kinds = "al"', "kinds"),
        ('kinds = "all"\nkindness = 3', "kindness = 3: no such key"),
        ('kinds = "all"\n[kind.link_flap]\nkeys = { up = [1, 2] }', "kind.link_flap.keys.up = [1, 2]: no such key"),
        ('kinds = "all"\n[kind.clock_drift]\nkeys = { ppm = [0, 9_000_000] }', "kind.clock_drift.keys.ppm = 9000000"),
        ('kinds = "all"\n[kind.link_flap]\nfor_ms = [9, 2]', "kind.link_flap.for_ms = [9, 2]: allowed: [shortest, l"),
        ('kinds = "all"\n[excluded]\nlink_flap = " "', 'excluded.link_flap = " ": needed: the reason'),
        ('kinds = "all"\nquiet_ms = 900_000', "quiet_ms = 900000: allowed: less than duration_ms = 600000"),
        ('kinds = "all"\n[rack]\nnodes = { 5 = 0 }', "needed: at least one with a weight above 0"),
        ('kinds = "all"\n[rack]\nnodes = { 12 = 1 }', "rack.nodes"),
        ('kinds = "all"\n[timers]\nfresh_ms = [900, 300]', "timers.fresh_ms = [900, 300]: allowed: [least, greatest]"),
        ('kinds = "all"\nplots = { "two drain" = 1 }', "no such name; allowed"),
        ('kinds = "all"\n[expect]\nverdict = "good"', "expect.verdict"),
        ('kinds = "all"\n[expect]\njoined = 5', "expect.joined = 5: no gate of a whole swarm"),
        ('kinds = "all"\nsometimes = ["rain"]', 'sometimes[0] = "rain": no such situation'),
        ('kinds = "all"\nclients_every_ms = { often = 1 }', 'clients_every_ms = "often": allowed: milliseconds'),
    ],
)
def test_what_is_wrong_with_a_profile_is_told(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_profile(written(text, tmp_path))
    assert message in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_a_profile_that_is_not_there_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r'profile "defualt": no such profile; allowed: bmc, .*did you mean "default"'):
        load_profile("defualt")


@pytest.mark.parametrize("name", FAULTS)
def test_a_kind_without_a_place_in_the_menu_gets_its_ranges_from_its_schema(name: str) -> None:
    problems = Problems("menu.toml")
    kind = make_kind(name, KindTable(), load_menu(), name, problems)
    assert not problems.found
    assert kind.strikes
    for key in kind.keys:
        assert key.how != "number" or key.least < key.greatest, key.name
        assert key.how not in ("one", "some") or key.values, key.name
    needed = {field.name for field in msgspec.structs.fields(FAULTS[name]) if field.required} - {"at_ms"}
    assert needed <= {key.name for key in kind.keys}


def test_every_kind_strikes_something() -> None:
    stage = stages()[2]
    for kind in load_profile("everything").kinds.values():
        assert any(components_of(struck, stage) for struck in kind.strikes)


def test_campaigns_move_services_and_pass() -> None:
    found = [attempt(tape) for tape in tapes("default", range(12))]
    assert [one.broken for one in found] == [""] * len(found)
    assert sum(len(one.moves) for one in found) >= len(found)
