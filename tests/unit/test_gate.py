"""Each way to be refused a boot or a certificate, and the one way to get them (rule 13)."""

import pytest

from core.gate import Admitted, Gate, Refusal, Refused
from core.ids import Guid, ImageId, NodeId

N6, GUID, MAC = NodeId("n6"), Guid("4c4c4544003910568052b4c04f384432"), "52:54:00:00:00:06"
UUID = "4c4c4544-0039-1056-8052-b4c04f384432"
OTHER, OTHER_MAC = "11111111-2222-3333-4444-555566667777", "52:54:00:00:00:99"
IMAGE = ImageId("0123456789abcdef")
TOKEN, UNTIL = "digest-1", 240_000


def gate(macs: tuple[str, ...] = (MAC,), image: ImageId = IMAGE) -> Gate:
    """A gate that expects n6 for four minutes."""
    made = Gate()
    made.open(N6, GUID, macs, image, UNTIL)
    return made


def refused(answer: Admitted | Refused) -> Refusal:
    assert isinstance(answer, Refused)
    return answer.reason


def test_the_expected_machine_gets_one_script_and_one_certificate() -> None:
    one = gate()
    asked = one.ask(UUID, "52-54-00-00-00-06", TOKEN, 1_000)
    assert asked == Admitted(node=N6, guid=GUID, mac=MAC, image=IMAGE)
    assert one.redeem(TOKEN, UUID, MAC, IMAGE, 60_000) == asked
    assert one.expected(60_000) == ()


@pytest.mark.parametrize("swapped", [True, False])
def test_smbios_may_show_the_bytes_in_another_order(swapped: bool) -> None:
    raw = bytes.fromhex(GUID)
    shown = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:] if swapped else raw[::-1]
    assert isinstance(gate().ask(shown.hex(), MAC, TOKEN, 0), Admitted)
    assert refused(gate().ask((raw[8:] + raw[:8]).hex(), MAC, TOKEN, 0)) == "wrong_machine"


def test_a_stranger_is_no_machine_that_is_expected() -> None:
    assert refused(gate().ask(OTHER, OTHER_MAC, TOKEN, 0)) == "unknown_machine"


def test_a_stranger_with_an_expected_network_card_is_another_machine() -> None:
    assert refused(gate().ask(OTHER, MAC, TOKEN, 0)) == "wrong_machine"


def test_an_expected_machine_with_a_strange_network_card_is_refused() -> None:
    assert refused(gate().ask(UUID, OTHER_MAC, TOKEN, 0)) == "wrong_mac"


def test_a_window_is_open_until_its_end_and_no_longer() -> None:
    assert isinstance(gate().ask(UUID, MAC, TOKEN, UNTIL - 1), Admitted)
    assert refused(gate().ask(UUID, MAC, TOKEN, UNTIL)) == "window_closed"
    one = gate()
    one.ask(UUID, MAC, TOKEN, 0)
    assert refused(one.redeem(TOKEN, UUID, MAC, IMAGE, UNTIL)) == "window_closed"


def test_two_claims_void_the_window_for_both() -> None:
    one = gate()
    one.ask(UUID, MAC, TOKEN, 0)
    assert refused(one.ask(UUID, MAC, "digest-2", 1)) == "asked_twice"
    assert refused(one.redeem(TOKEN, UUID, MAC, IMAGE, 2)) == "token_void"
    assert refused(one.redeem("digest-2", UUID, MAC, IMAGE, 2)) == "unknown_token"


def test_a_claim_after_the_certificate_gets_nothing_and_takes_nothing() -> None:
    one = gate()
    one.ask(UUID, MAC, TOKEN, 0)
    one.redeem(TOKEN, UUID, MAC, IMAGE, 1)
    assert refused(one.ask(UUID, MAC, "digest-2", 2)) == "asked_twice"
    assert refused(one.redeem(TOKEN, UUID, MAC, IMAGE, 3)) == "token_spent"


def test_a_token_of_an_earlier_power_on_is_void() -> None:
    one = gate()
    one.ask(UUID, MAC, TOKEN, 0)
    one.open(N6, GUID, (MAC,), IMAGE, UNTIL)
    assert refused(one.redeem(TOKEN, UUID, MAC, IMAGE, 1)) == "token_void"
    assert isinstance(one.ask(UUID, MAC, "digest-2", 2), Admitted)


def test_a_spent_token_stays_spent_after_its_window() -> None:
    one = gate()
    one.ask(UUID, MAC, TOKEN, 0)
    one.redeem(TOKEN, UUID, MAC, IMAGE, 1)
    one.close(N6)
    assert refused(one.redeem(TOKEN, UUID, MAC, IMAGE, 2)) == "token_spent"


@pytest.mark.parametrize(("uuid", "mac"), [(OTHER, MAC), (UUID, OTHER_MAC), ("nonsense", MAC), (UUID, "")])
def test_a_stolen_token_is_refused_and_worth_nothing_to_its_owner_either(uuid: str, mac: str) -> None:
    one = gate()
    one.ask(UUID, MAC, TOKEN, 0)
    assert refused(one.redeem(TOKEN, uuid, mac, IMAGE, 1)) == "wrong_machine"
    assert refused(one.redeem(TOKEN, UUID, MAC, IMAGE, 2)) == "token_void"


def test_another_image_than_the_one_given_is_refused() -> None:
    one = gate()
    one.ask(UUID, MAC, TOKEN, 0)
    assert refused(one.redeem(TOKEN, UUID, MAC, ImageId("f" * 16), 1)) == "wrong_image"
    assert isinstance(one.redeem(TOKEN, UUID, MAC, IMAGE, 2), Admitted)


@pytest.mark.parametrize("token", ["", "nobody's"])
def test_a_token_that_nobody_gave_is_unknown(token: str) -> None:
    assert refused(gate().redeem(token, UUID, MAC, IMAGE, 0)) == "unknown_token"


def test_a_retired_machine_is_told_so_and_has_no_window_left() -> None:
    one = gate()
    one.retire(GUID, N6)
    answer = one.ask(UUID, MAC, TOKEN, 0)
    assert (refused(answer), answer.node) == ("retired", N6)


def test_a_window_without_identity_takes_its_network_card_for_one() -> None:
    one = Gate()
    one.open(N6, Guid(""), (MAC,), IMAGE, UNTIL)
    assert isinstance(one.ask(OTHER, MAC, TOKEN, 0), Admitted)
    assert refused(one.ask(OTHER, OTHER_MAC, "digest-2", 0)) == "unknown_machine"


def test_a_window_without_identity_and_card_lets_nobody_in() -> None:
    one = Gate()
    one.open(N6, Guid(""), (), IMAGE, UNTIL)
    assert refused(one.ask(UUID, MAC, TOKEN, 0)) == "unknown_machine"
