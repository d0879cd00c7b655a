"""The gates of all boot servers of a rack: who was let in as what, and what every attempt came to."""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from core.effects import AllowBoot
from core.events import AnyEvent, BootSeen, BootStage, JoinAdmitted, JoinRefused
from core.gate import Admitted, Gate, Refused
from core.identity import plain_mac, same_machine
from core.ids import NO_IMAGE, NO_NODE, Guid, ImageId, NodeId
from twin.kernel import Kernel
from twin.truth import JoinMark

Tell = Callable[[NodeId, AnyEvent], None]
Act = Literal["ask", "redeem"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says of himself to a boot server. ``machine``: who it really is, which no server knows."""

    machine: str
    uuid: str
    mac: str


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What a boot script carried: the token, who gave it, and the image that came with it."""

    server: NodeId
    token: str
    image: ImageId


class Gates:
    """One ``core.gate.Gate`` a boot server. ``tell`` reaches the agent of a server, ``mark`` the truth."""

    def __init__(self, kernel: Kernel, image: ImageId) -> None:
        self.tell: Tell = lambda _server, _event: None
        self.mark: Callable[[JoinMark], None] = lambda _mark: None
        self._kernel, self._image = kernel, image
        self._gates: dict[NodeId, Gate] = {}
        self._retired: dict[Guid, NodeId] = {}
        self._tokens = 0
        self._on_script: list[Callable[[Claim, Ticket], None]] = []

    def on_script(self, fn: Callable[[Claim, Ticket], None]) -> Callable[[], None]:
        """Call ``fn`` for each token that goes out, until the result is called: scripts are sent in the clear."""
        self._on_script.append(fn)
        return lambda: self._on_script.remove(fn)

    def open(self, server: NodeId, effect: AllowBoot) -> None:
        """Expect a machine at a server, which names no image but its own unless it was told to."""
        until_ms = self._kernel.now + effect.ms_max
        self.gate(server).open(effect.node, effect.guid, effect.macs, effect.image or self._image, until_ms)

    def gate(self, server: NodeId) -> Gate:
        """The gate of a server, new after each of its boots."""
        found = self._gates.get(server)
        if found is None:
            found = self._gates[server] = Gate()
            for guid, node in self._retired.items():
                found.retire(guid, node)
        return found

    def down(self, server: NodeId) -> None:
        """A server lost its memory, and with it its windows."""
        self._gates.pop(server, None)

    def retire(self, retired: Mapping[Guid, NodeId]) -> None:
        """Let every gate know who was taken out for good."""
        for guid, node in retired.items():
            if guid not in self._retired:
                self._retired[guid] = node
                for gate in self._gates.values():
                    gate.retire(guid, node)

    def answers(self, server: NodeId, node: NodeId, claim: Claim) -> bool:
        """Whether a server gives an address to a machine: not outside the window of one that it could be."""
        gate = self._gates.get(server)
        window = gate.window(node) if gate is not None else None
        if window is None or window.state == "spent" or self._kernel.now >= window.until_ms:
            return False
        return same_machine(window.guid, claim.uuid) or plain_mac(claim.mac) in window.macs

    def closes_ms(self, server: NodeId, node: NodeId) -> int:
        """When the window of a node closes there, -1 if there is none."""
        gate = self._gates.get(server)
        window = gate.window(node) if gate is not None else None
        return window.until_ms if window is not None else -1

    def seen(self, server: NodeId, node: NodeId, stage: BootStage, detail: str = "") -> None:
        """A machine that this server boots came further."""
        self.tell(server, BootSeen(at_ms=self._kernel.now, node=node, stage=stage, detail=detail))

    def ask(self, server: NodeId, claim: Claim) -> Ticket | Refused:
        """Somebody asks for a boot script."""
        self._tokens += 1
        token = f"{server}/{self._tokens}"
        answer = self.gate(server).ask(claim.uuid, claim.mac, token, self._kernel.now)
        if isinstance(answer, Refused):
            self._refuse(server, claim, "ask", "", answer)
            return answer
        self._mark(server, claim, "ask", token, "", answer.node)
        self.seen(server, answer.node, "script")
        ticket = Ticket(server=server, token=token, image=answer.image)
        for fn in list(self._on_script):
            fn(claim, ticket)
        return ticket

    def redeem(self, ticket: Ticket, claim: Claim, image: ImageId = NO_IMAGE) -> Admitted | Refused:
        """Somebody wants a certificate for a token. ``image``: what it says it runs, if not what came with it."""
        server, now = ticket.server, self._kernel.now
        answer = self.gate(server).redeem(ticket.token, claim.uuid, claim.mac, image or ticket.image, now)
        if isinstance(answer, Refused):
            self._refuse(server, claim, "redeem", ticket.token, answer)
            return answer
        self._mark(server, claim, "redeem", ticket.token, "", answer.node)
        certificate = f"{len(ticket.token):02x}{now:08x}"
        admitted = JoinAdmitted(at_ms=now, node=answer.node, guid=answer.guid, mac=answer.mac, certificate=certificate)
        self.tell(server, admitted)
        return answer

    def _refuse(self, server: NodeId, claim: Claim, act: Act, token: str, answer: Refused) -> None:
        self._mark(server, claim, act, token, answer.reason, answer.node)
        refused = JoinRefused(at_ms=self._kernel.now, reason=answer.reason, node=answer.node, detail=answer.detail)
        self.tell(server, refused)

    def _mark(self, server: NodeId, claim: Claim, act: Act, token: str, refused: str, node: NodeId = NO_NODE) -> None:
        mark = JoinMark(
            at_ms=self._kernel.now,
            server=server,
            machine=claim.machine,
            act=act,
            token=token,
            refused=refused,
            node=node,
        )
        self.mark(mark)
