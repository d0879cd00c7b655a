"""Who may boot from the network and join: nobody by asking. Windows, one-time tokens, and why somebody is refused.

A window opens for one machine when its steward orders its power, and closes by itself. Within it the machine gets one
boot script with one token, and the token is worth one certificate. Two machines that claim one identity in the same
window both get nothing more from it: which of them is the right one cannot be told from here. Tokens are made by the
caller, who has randomness; only their digests are kept.
"""

from typing import Literal

import msgspec

from core.identity import identity, plain_mac, same_machine
from core.ids import NO_IMAGE, NO_NODE, Guid, ImageId, NodeId

Refusal = Literal[
    "unknown_machine",  # no machine of this identity is expected
    "window_closed",  # it was expected, but not now any more
    "wrong_mac",  # the machine is expected with another network card
    "asked_twice",  # two boots within one window claim to be the machine
    "unknown_token",  # nobody was ever given this token here
    "token_spent",  # this token was exchanged before
    "token_void",  # this token's window was closed, replaced, or claimed twice
    "wrong_machine",  # the token was given to another machine
    "wrong_image",  # the machine runs another image than it was given
    "retired",  # the machine was taken out of the rack for good
    "bad_request",  # what was sent is no request at all
]

TOKENS_MAX = 1_000
"""Tokens of the past that are remembered, so that a replay is told from nonsense."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """No, and why. ``node``: whose identity was claimed, if that is known here."""

    reason: Refusal
    node: NodeId = NO_NODE
    detail: str = ""


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """Yes. ``guid`` as the window has it; ``mac`` as it was asked with."""

    node: NodeId
    guid: Guid
    mac: str
    image: ImageId = NO_IMAGE


class Window(msgspec.Struct):
    """One machine's chance to boot and join. ``token`` is a digest; ``claims`` counts scripts that were asked for."""

    node: NodeId
    guid: Guid
    macs: tuple[str, ...]
    image: ImageId
    until_ms: int
    token: str = ""
    mac: str = ""
    claims: int = 0
    state: Literal["open", "spent", "void"] = "open"


class Gate:
    """The windows of one boot server. Times are milliseconds of the caller's clock; no method raises."""

    def __init__(self) -> None:
        self._windows: dict[NodeId, Window] = {}
        self._machines: dict[str, NodeId] = {}
        self._given: dict[str, NodeId] = {}
        self._tokens: dict[str, tuple[NodeId, Literal["spent", "void"]]] = {}
        self._retired: dict[Guid, NodeId] = {}

    def open(self, node: NodeId, guid: Guid, macs: tuple[str, ...], image: ImageId, until_ms: int) -> None:
        """Expect a machine until then. An earlier window of the node closes, and its token with it."""
        self.close(node)
        self._windows[node] = Window(
            node=node, guid=guid, macs=tuple(map(plain_mac, macs)), image=image, until_ms=until_ms
        )
        if guid:
            self._machines[identity(guid)] = node

    def close(self, node: NodeId) -> None:
        """Expect a node no more."""
        window = self._windows.pop(node, None)
        if window is not None and self._machines.get(identity(window.guid)) == node:
            del self._machines[identity(window.guid)]
        if window is not None and window.token:
            self._given.pop(window.token, None)
            self._remember(window.token, node, "spent" if window.state == "spent" else "void")

    def retire(self, guid: Guid, node: NodeId) -> None:
        """Tell a machine that was retired from one that nobody knows; it is expected no more."""
        self._retired[guid] = node
        self.close(node)

    def window(self, node: NodeId) -> Window | None:
        """The window of a node, open or not."""
        return self._windows.get(node)

    def expected(self, now_ms: int) -> tuple[Window, ...]:
        """The windows in which somebody may still ask."""
        return tuple(w for w in self._windows.values() if w.state == "open" and now_ms < w.until_ms)

    def ask(self, uuid: str, mac: str, token: str, now_ms: int) -> Admitted | Refused:
        """A machine asks for its boot script, which will carry a fresh token of that digest."""
        window = self._find(uuid, mac)
        if window is None:
            return self._unknown(uuid, mac)
        known = Refused(reason="window_closed", node=window.node, detail=f"machine {uuid} with {mac}")
        if now_ms >= window.until_ms:
            return known
        if window.macs and plain_mac(mac) not in window.macs:
            return msgspec.structs.replace(known, reason="wrong_mac")
        window.claims += 1
        if window.claims > 1 or window.state != "open":
            if window.state == "open":
                window.state = "void"
            return msgspec.structs.replace(known, reason="asked_twice")
        window.token, window.mac = token, plain_mac(mac)
        self._given[token] = window.node
        return Admitted(node=window.node, guid=window.guid, mac=window.mac, image=window.image)

    def redeem(self, token: str, uuid: str, mac: str, image: ImageId, now_ms: int) -> Admitted | Refused:
        """A booted machine wants a certificate for the token of that digest. Yes is said once.

        ``image``: what it says it booted, compared where the window names one.
        """
        window = self._windows.get(self._given.get(token, NO_NODE))
        if window is None:
            return self._old_token(token, uuid, mac)
        refused = Refused(reason="token_void", node=window.node, detail=f"machine {uuid} with {mac}")
        if window.state == "spent":
            return msgspec.structs.replace(refused, reason="token_spent")
        if window.state == "void":
            return refused
        if now_ms >= window.until_ms:
            return msgspec.structs.replace(refused, reason="window_closed")
        if (window.guid and not same_machine(window.guid, uuid)) or plain_mac(mac) != window.mac:
            window.state = "void"  # whoever shows it has stolen it: nobody is to use it any more
            return msgspec.structs.replace(refused, reason="wrong_machine")
        if window.image and image != window.image:
            return msgspec.structs.replace(refused, reason="wrong_image")
        window.state = "spent"
        return Admitted(node=window.node, guid=window.guid, mac=window.mac, image=window.image)

    def _find(self, uuid: str, mac: str) -> Window | None:
        """The window of this machine: by identity, and where that is not known yet by a network card that is."""
        window = self._windows.get(self._machines.get(identity(uuid), NO_NODE))
        if window is not None and same_machine(window.guid, uuid):
            return window
        for window in self._windows.values():
            if not window.guid and plain_mac(mac) in window.macs:
                return window
        return None

    def _unknown(self, uuid: str, mac: str) -> Refused:
        detail = f"machine {uuid} with {mac}"
        for guid, node in self._retired.items():
            if same_machine(guid, uuid):
                return Refused(reason="retired", node=node, detail=detail)
        for window in self._windows.values():
            if plain_mac(mac) in window.macs:
                return Refused(reason="wrong_machine", node=window.node, detail=detail)
        return Refused(reason="unknown_machine", detail=detail)

    def _old_token(self, token: str, uuid: str, mac: str) -> Refused:
        node, state = self._tokens.get(token, (NO_NODE, ""))
        detail = f"machine {uuid} with {mac}"
        if state == "spent":
            return Refused(reason="token_spent", node=node, detail=detail)
        if state == "void":
            return Refused(reason="token_void", node=node, detail=detail)
        return Refused(reason="unknown_token", detail=detail)

    def _remember(self, token: str, node: NodeId, state: Literal["spent", "void"]) -> None:
        self._tokens[token] = (node, state)
        while len(self._tokens) > TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]
