"""The gate's law: at most one certificate for each window, never for two machines, never outside of it.

A machine of rules opens, closes and lets windows pass, and has honest machines, clones and thieves ask, in any order. A
model that knows only who was given what says what must not happen.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.gate import TOKENS_MAX, Admitted, Gate, Refused
from core.ids import NO_GUID, NO_IMAGE, Guid, ImageId, NodeId

NODES = tuple(NodeId(f"n{number}") for number in (1, 2))
GUIDS = {node: Guid(f"11111111-2222-3333-4444-55555555550{node[1:]}") for node in NODES}
MACS = {node: f"52:54:00:00:00:0{node[1:]}" for node in NODES}
STRANGER = ("99999999-0000-0000-0000-000000000009", "52:54:00:00:00:99")
IMAGES = (NO_IMAGE, ImageId("aaaa"), ImageId("bbbb"))
BOTH = {node: (str(GUIDS[node]), MACS[node]) for node in NODES}

nodes = st.sampled_from(NODES)
uuids = st.sampled_from((*GUIDS.values(), STRANGER[0], "not-a-uuid"))
macs = st.sampled_from((*MACS.values(), STRANGER[1], "52-54-00-00-00-01".upper()))
images = st.sampled_from(IMAGES)


class Promise:
    """One window as its steward ordered it."""

    def __init__(self, node: NodeId, number: int, until_ms: int, image: ImageId, known: bool) -> None:
        self.node = node
        self.number = number
        self.until_ms = until_ms
        self.image = image
        self.known = known
        self.asked: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.certificates = 0
        self.stolen = False


class GateRules(RuleBasedStateMachine):
    """Whoever may come, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.now_ms = 0
        self.made = 0
        self.current: dict[NodeId, Promise] = {}
        self.given: dict[str, tuple[Promise, str, str]] = {}
        self.certified: list[Promise] = []

    @rule(node=nodes, length=st.integers(1, 40), image=images, known=st.booleans())
    def open(self, node: NodeId, length: int, image: ImageId, known: bool) -> None:
        """A steward powers a machine on."""
        self.made += 1
        self.gate.open(node, GUIDS[node] if known else NO_GUID, (MACS[node],), image, self.now_ms + length)
        self.current[node] = Promise(node, self.made, self.now_ms + length, image, known)

    @rule(node=nodes)
    def close(self, node: NodeId) -> None:
        """A steward changes its mind."""
        self.gate.close(node)
        self.current.pop(node, None)

    @rule(node=nodes)
    def retire(self, node: NodeId) -> None:
        """A machine is taken out for good, and its window with it, as its boot server does."""
        self.gate.retire(GUIDS[node], node)
        self.close(node)

    @rule(ms=st.integers(1, 10))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now_ms += ms

    @rule(uuid=uuids, mac=macs)
    def anybody_asks(self, uuid: str, mac: str) -> None:
        """Somebody asks for a script, whoever it is."""
        self.made += 1
        token = f"token-{self.made}"
        answer = self.gate.ask(uuid, mac, token, self.now_ms)
        if isinstance(answer, Refused):
            return
        promise = self.current[answer.node]
        assert self.now_ms < promise.until_ms, "a script outside the window"
        assert not promise.scripts, "a second script in one window"
        assert mac.replace("-", ":").lower() == MACS[answer.node], "a script for another card"
        assert uuid == GUIDS[answer.node] or not promise.known, "a script for another machine"
        promise.scripts.append(token)
        self.given[token] = (promise, uuid, mac)

    @rule(data=st.data())
    def the_machine_asks(self, data: st.DataObject) -> None:
        """A machine that is expected, or a perfect clone: nothing tells them apart."""
        node = data.draw(st.sampled_from(sorted(self.current) or NODES))
        before = self.current.get(node)
        claimed = before is not None and bool(before.scripts) and self.now_ms < before.until_ms
        answered = len(self.given)
        self.anybody_asks(*BOTH[node])
        if claimed:
            assert len(self.given) == answered, "two machines got a script in one window"
            assert before is not None
            before.stolen = True

    @rule(data=st.data())
    def a_token_of_the_past_is_shown(self, data: st.DataObject) -> None:
        """Any token that was ever given, by the machine that it was given to, or one that never was."""
        token = data.draw(st.sampled_from((*self.given, "never-given", "")))
        promise, uuid, mac = self.given.get(token, (None, *BOTH[NODES[0]]))
        self._redeem(token, uuid, mac, promise.image if promise is not None else NO_IMAGE)

    @rule(data=st.data(), what=st.sampled_from(("uuid", "mac", "image")))
    def a_token_is_shown_with_something_else(self, data: st.DataObject, what: str) -> None:
        """A token that is still good, but not by the machine that it was given to, or not by its image."""
        for token in data.draw(st.permutations(self._live()))[:1]:
            promise, uuid, mac = self.given[token]
            self._redeem(
                token,
                data.draw(uuids) if what == "uuid" else uuid,
                data.draw(macs) if what == "mac" else mac,
                data.draw(images) if what == "image" else promise.image,
            )

    @rule(data=st.data())
    def the_machine_shows_its_token(self, data: st.DataObject) -> None:
        """The machine that was given it."""
        for token in data.draw(st.permutations(self._live()))[:1]:
            promise, uuid, mac = self.given[token]
            self._redeem(token, uuid, mac, promise.image)

    def _live(self) -> list[str]:
        return sorted(token for promise in self.current.values() for token in promise.scripts)

    def _redeem(self, token: str, uuid: str, mac: str, image: ImageId) -> None:
        answer = self.gate.redeem(token, uuid, mac, image, self.now_ms)
        found = self.given.get(token)
        live = found is not None and self.current.get(found[0].node) is found[0]
        if isinstance(answer, Admitted):
            assert found is not None, "a certificate for a token that nobody was given"
            promise, _, script_mac = found
            assert live, "a certificate from a window that was closed or replaced"
            assert self.now_ms < promise.until_ms, "a certificate after the window"
            assert not promise.stolen, "a certificate in a window that two claimed"
            assert mac.replace("-", ":").lower() == script_mac.replace("-", ":").lower()
            assert not promise.known or uuid == GUIDS[promise.node]
            assert image == promise.image or not promise.image
            assert answer.node == promise.node
            promise.certificates += 1
            self.certified.append(promise)
        elif live and found is not None and answer.reason == "wrong_machine":
            found[0].stolen = True  # nobody gets anything for this token any more

    @invariant()
    def each_window_gave_one_certificate_at_most(self) -> None:
        """The law."""
        assert all(promise.certificates <= 1 for promise in self.certified)
        assert len({promise.number for promise in self.certified}) == len(self.certified)

    @invariant()
    def what_is_remembered_has_a_bound(self) -> None:
        """Whoever asks for ever fills no memory."""
        assert len(self.gate._tokens) <= TOKENS_MAX


GateRules.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
test_at_most_one_certificate_for_each_window_never_for_two_never_outside = GateRules.TestCase


def test_an_honest_machine_alone_gets_its_certificate() -> None:
    gate = Gate()
    gate.open(NODES[0], GUIDS[NODES[0]], (MACS[NODES[0]],), IMAGES[1], 10)
    assert isinstance(gate.ask(*BOTH[NODES[0]], "token", 3), Admitted)
    assert isinstance(gate.redeem("token", *BOTH[NODES[0]], IMAGES[1], 9), Admitted)


def test_what_was_spent_long_ago_is_forgotten_and_still_opens_nothing() -> None:
    gate = Gate()
    for number in range(TOKENS_MAX + 10):
        gate.open(NODES[0], GUIDS[NODES[0]], (), NO_IMAGE, 10)
        gate.ask(*BOTH[NODES[0]], f"token-{number}", 1)
        gate.redeem(f"token-{number}", *BOTH[NODES[0]], NO_IMAGE, 1)
    gate.close(NODES[0])
    first, last = (gate.redeem(f"token-{n}", *BOTH[NODES[0]], NO_IMAGE, 1) for n in (0, TOKENS_MAX + 9))
    assert isinstance(first, Refused)
    assert isinstance(last, Refused)
    assert (first.reason, last.reason) == ("unknown_token", "token_spent")


@pytest.mark.parametrize("wrong", ["uuid", "mac", "image", "late", "closed", "replaced", "cloned"])
def test_each_thing_that_is_wrong_is_enough(wrong: str) -> None:
    gate, node = Gate(), NODES[0]
    gate.open(node, GUIDS[node], (MACS[node],), IMAGES[1], 10)
    assert isinstance(gate.ask(*BOTH[node], "token", 3), Admitted)
    if wrong == "closed":
        gate.close(node)
    elif wrong == "replaced":
        gate.open(node, GUIDS[node], (MACS[node],), IMAGES[1], 20)
    elif wrong == "cloned":
        assert isinstance(gate.ask(*BOTH[node], "other", 4), Refused)
    answer = gate.redeem(
        "token",
        STRANGER[0] if wrong == "uuid" else GUIDS[node],
        STRANGER[1] if wrong == "mac" else MACS[node],
        IMAGES[2] if wrong == "image" else IMAGES[1],
        10 if wrong == "late" else 9,
    )
    assert isinstance(answer, Refused)
    honest = gate.redeem("token", *BOTH[node], IMAGES[1], 9)
    assert isinstance(honest, Admitted) == (wrong in ("image", "late")), "a stolen token is worth nothing any more"
