"""The lab's faults have the keys of the twin's, so that one scenario file means the same in both worlds."""

from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from drivers.lab.campaign import load
from drivers.lab.faults import LAB_FAULTS
from twin.faults import FAULTS

WITHOUT_COUNTERPART = {
    "bad_batch",
    "bad_image",
    "blocklist_failing",
    "bmc_bootdev_ignored",
    "bmc_deaf_to_on",
    "bmc_sessions_dropped",
    "bmc_wrong_password",
    "clock_drift",
    "clock_jump",
    "disk_slow",
    "image_flawed",
    "installed_by_hand",
    "kernel_panic",
    "lock_stuck",
    "netboot_failing",
    "slow_disk",
    "upgrade_begins",
    "upgrade_halts",
    "upgrade_node_lost",
    "upgrade_resumes",
}
WITHOUT_COUNTERPART |= {  # rare behaviours cannot be ordered from a real server: the lab has them when they happen
    "answer_late",
    "bmc_answer_lost",
    "bmc_cycle_refused",
    "bmc_hangs_after",
    "bmc_order_late",
    "bmc_order_repeated",
    "bmc_report_late",
    "bmc_session_refused",
    "boot_slow",
    "boot_twice",
    "clock_slew",
    "close_hangs",
    "commit_answer_lost",
    "commit_lost",
    "commit_pause",
    "dhcp_offer_lost",
    "ephemeral_late",
    "exit_after_healthy",
    "exit_told_late",
    "fence_answer_lost",
    "fence_late",
    "follower_lag",
    "group_slow",
    "heartbeats_lost",
    "lift_answer_lost",
    "link_lopsided",
    "map_late",
    "mount_replay_long",
    "open_answer_lost",
    "power_on_ignored",
    "session_moved",
    "session_refused",
    "start_slow",
    "stop_hangs",
    "unmount_fails",
    "watch_late",
    "watch_repeated",
}


def test_every_fault_is_in_the_lab_or_known_to_have_no_real_counterpart() -> None:
    assert set(FAULTS) == set(LAB_FAULTS) | WITHOUT_COUNTERPART


@pytest.mark.parametrize("kind", LAB_FAULTS)
def test_a_fault_of_the_lab_has_the_keys_of_the_twins(kind: str) -> None:
    def keys(fault: type[msgspec.Struct]) -> dict[str, tuple[object, object]]:
        return {field.name: (field.type, field.default) for field in msgspec.structs.fields(fault)}

    lab, twin = LAB_FAULTS[kind], FAULTS[kind]
    assert keys(lab) == keys(twin)
    assert (lab.STRIKES, lab.TARGET_NEEDED) == (twin.STRIKES, twin.TARGET_NEEDED)


@pytest.mark.parametrize("name", ["clock-jump", "blocklist-failing", "lock-stuck", "rare-bmc"])
def test_a_fault_without_a_real_counterpart_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load(Path("scenarios") / name)
    assert "no such fault; allowed:" in caught.value.problems[0]
    assert "power_loss" in caught.value.problems[0]


def test_a_rack_too_large_for_one_machine_is_refused() -> None:
    with pytest.raises(InputError, match="40 nodes; the lab runs at most 9"):
        load(Path("scenarios/half-the-rack"))


def test_a_rack_that_is_dark_at_the_begin_and_recorded_years_are_refused() -> None:
    with pytest.raises(InputError, match="the lab begins a run with a rack that is up"):
        load(Path("scenarios/dark-start"))
    with pytest.raises(InputError):
        load(Path("scenarios/lanl"))


def test_who_must_not_join_is_a_fault_only_where_machines_are_found(tmp_path: Path) -> None:
    words = Path("scenarios/join-attacks/scenario.toml").read_text(encoding="utf-8")
    listed = words.replace("discover = true", "discover = false").replace('"racks/', f'"{Path.cwd()}/racks/')
    (tmp_path / "scenario.toml").write_text(listed.replace('"catalog/', f'"{Path.cwd()}/catalog/'), encoding="utf-8")
    with pytest.raises(InputError, match=r"rogue_machine: nobody is booted .*; needed: \[boots\] discover = true"):
        load(tmp_path)
    assert load(Path("scenarios/join-attacks")).boots.discover


def test_most_scenarios_have_a_real_counterpart() -> None:
    loaded = 0
    for folder in sorted(Path("scenarios").iterdir()):
        try:
            load(folder)
        except InputError:
            continue
        loaded += 1
    assert loaded >= 50
