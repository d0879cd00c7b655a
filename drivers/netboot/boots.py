"""The machines that may boot here: which script each gets, how far it has come, and who is refused."""

import asyncio
import ipaddress
import re
from collections.abc import Callable
from typing import get_args
from urllib.parse import quote

import msgspec

from core.events import BootSeen, BootStage, JoinRefused
from core.gate import Gate, Refused, Window
from core.identity import plain_mac, same_machine
from core.ids import ImageId, NodeId
from drivers.image.manifest import INITRD, MANIFEST, ROOT, SIGNATURE
from drivers.join.tokens import make
from drivers.log import event as log
from drivers.netboot.dnsmasq import Expected
from drivers.netboot.http import Reply, Request, Served
from drivers.netboot.memory import Kept, Remembered
from drivers.netboot.pace import Line
from drivers.netboot.peers import OWN
from drivers.netboot.place import Place
from drivers.netboot.reports import Reports
from drivers.netboot.script import Given, boot_script, first_script, leave_script, wait_script
from drivers.netboot.shelf import Image, Shelf
from drivers.netboot.wire import Allow

UUID_FORM = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
MAC_FORM = re.compile(r"^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$")
IMAGE_PATH = re.compile(r"^/images/([0-9a-f]{16})/([A-Za-z0-9][A-Za-z0-9._-]{0,63})$")
STAGES: tuple[BootStage, ...] = get_args(BootStage)
WARDS_MAX, KEYS_MAX = 1_000, 4_000
VERIFY_S = 2
"""A machine comes again after this while an image is verified for the first time."""


class Ward(msgspec.Struct):
    """One machine that may boot: what the agent ordered, and how far it has come."""

    order: Allow
    stages: list[BootStage] = []
    asked_from: str = ""


class Boots:
    """The windows of one boot server, its scripts and its files. Times come from ``clock_ms``."""

    def __init__(
        self,
        place: Place,
        gate: Gate,
        shelf: Shelf,
        line: Line,
        reports: Reports,
        clock_ms: Callable[[], int],
        default: ImageId,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``changed`` is called whenever ``kept`` would say something else, before anybody hears of it."""
        self._place = place
        self._gate = gate
        self._shelf = shelf
        self._line = line
        self._reports = reports
        self._clock_ms = clock_ms
        self._default = default
        self._changed = changed
        self._wards: dict[NodeId, Ward] = {}
        self._keys: dict[str, None] = {}
        self._looking: set[asyncio.Task[Image | None]] = set()
        self.problem = ""

    # -- what outlives the process ----------------------------------------------------------------------------------

    def kept(self) -> tuple[tuple[Kept, ...], tuple[str, ...]]:
        """What is to be restored after a restart: windows, and the orders that are not to be carried out again."""
        found = []
        for node, ward in self._wards.items():
            if (window := self._gate.window(node)) is not None:
                stages = tuple(ward.stages)
                found.append(Kept(order=ward.order, window=window, stages=stages, asked_from=ward.asked_from))
        return tuple(found), tuple(self._keys)

    def restore(self, remembered: Remembered) -> None:
        """Go on from what the last process left."""
        self._keys = dict.fromkeys(remembered.keys)
        for kept in remembered.wards:
            was, node = kept.window, kept.window.node
            _reopen(self._gate, was)
            stages = [stage for stage in STAGES if stage in kept.stages]
            self._wards[node] = Ward(order=kept.order, stages=stages, asked_from=kept.asked_from)

    # -- what the agent orders --------------------------------------------------------------------------------------

    def allow(self, order: Allow) -> None:
        """Open a window, unless it is the very one that is open already, or nobody could come through it."""
        node, effect = order.effect.node, order.effect
        if order.key in self._keys:
            return
        self._keys[order.key] = None
        while len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        if problem := self._problem(order):
            log("boot_not_allowed", about=node, problem=problem)
            return
        self._wards.pop(node, None)
        while len(self._wards) >= WARDS_MAX:
            gone = next(iter(self._wards))
            del self._wards[gone]
            self._gate.close(gone)
        self._wards[node] = Ward(order=order, stages=[])
        self._line.leave(node)
        image = effect.image or self._default
        self._gate.open(node, effect.guid, effect.macs, image, order.until_ms)
        self._changed()
        log("boot_allowed", about=node, guid=effect.guid, macs=effect.macs, image=image, address=order.address)

    def _problem(self, order: Allow) -> str:
        effect = order.effect
        if order.until_ms <= self._clock_ms():
            return "its time is over"
        if not effect.guid and not effect.macs:
            return "nothing is known by which it could be recognised"
        if not all(MAC_FORM.match(plain_mac(mac)) for mac in effect.macs):
            return f"no hardware address: {effect.macs}"
        try:
            if ipaddress.ip_address(order.address) in self._place.subnet:
                return ""
        except ValueError:
            pass
        return f"its address {order.address!r} is not in {self._place.subnet}"

    def expected(self) -> tuple[Expected, ...]:
        """Who is to get an answer from DHCP now."""
        open_now = {window.node: window for window in self._gate.expected(self._clock_ms())}
        return tuple(
            Expected(node=node, address=ward.order.address, guid=open_now[node].guid, macs=open_now[node].macs)
            for node, ward in sorted(self._wards.items())
            if node in open_now
        )

    # -- what is seen -----------------------------------------------------------------------------------------------

    def offered(self, node: NodeId, mac: str) -> None:
        """DHCP offered an address."""
        self._stage(node, "offered", f"to {mac}")

    def _stage(self, node: NodeId, stage: BootStage, detail: str) -> None:
        ward = self._wards.get(node)
        if ward is not None and stage not in ward.stages:
            ward.stages.append(stage)
            self._changed()
            self._reports.tell(BootSeen(at_ms=self._clock_ms(), node=node, stage=stage, detail=detail))

    def _sent(self, address: str, name: str, size: int) -> Callable[[int], None]:
        """What to do as a file goes out to an address: keep the machine's place, and tell when it has all of it."""
        node = self._node_at(address)

        def sent(end: int) -> None:
            if node is None:
                return
            self._line.moved(node, self._clock_ms())
            if end == size and name == INITRD:
                self._stage(node, "kernel", f"kernel and {name} to {address}")
                self._line.leave(node)  # while its kernel starts another may load; the root image waits for a stream
            elif end == size and name == ROOT:
                self._stage(node, "image", f"{size >> 20} MB to {address}")

        return sent

    def _node_at(self, address: str) -> NodeId | None:
        """Whose boot this address belongs to: firmware and iPXE may have another one than the system."""
        for node, ward in self._wards.items():
            if "script" in ward.stages and address in (ward.asked_from, ward.order.address):
                return node
        return None

    # -- what is asked ----------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Reply:
        """Answer any request."""
        match request.path:
            case "/boot.ipxe":
                return Reply(text=first_script(self._place))
            case "/node.ipxe":
                return Reply(text=self._script(request))
            case "/health":
                return Reply(status=503 if self.problem else 200, text=f"{self.problem or 'ok'}\n")
            case _:
                return self._file(request)

    def _file(self, request: Request) -> Reply:
        found = IMAGE_PATH.match(request.path)
        if found is None:
            return Reply(status=404)
        image, name = self._shelf.get(ImageId(found[1])), found[2]
        if image is None or (image.server and OWN in request.query):
            waits = OWN not in request.query and self._look(ImageId(found[1]))
            return Reply(status=503, retry_s=VERIFY_S) if waits else Reply(status=404)
        if name not in image.files:
            return Reply(status=404)
        digest, size = image.files[name]
        sent = self._sent(request.address, name, size)
        if image.server and name not in (MANIFEST, SIGNATURE):
            sent(size)  # as far as can be seen from here
            return Reply(status=302, elsewhere=f"http://{image.server}{request.path}")
        return Reply(file=Served(path=image.folder / name, size=size, tag=f'"{digest}"', sent=sent))

    def _look(self, image: ImageId) -> bool:
        """Have an image verified that is not yet; whether there is one of that id at all."""
        wanted = image == self._default or any(image == ward.order.effect.image for ward in self._wards.values())
        if not self._shelf.may_have(image, elsewhere=wanted):
            return False
        if not self._looking:
            task = asyncio.get_running_loop().create_task(self._shelf.look(image))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)
        return True

    def _script(self, request: Request) -> str:
        uuid, mac = request.query.get("uuid", ""), request.query.get("mac", "")
        who = f"{_shown(uuid)} with {_shown(mac)} from {request.address}"
        if not UUID_FORM.match(uuid) or not MAC_FORM.match(mac):
            return self._refuse(Refused(reason="bad_request", detail=f"no machine: {who}"))
        now_ms = self._clock_ms()
        window = self._window_of(uuid, mac, now_ms)
        if window is not None and not window.claims:
            image = self._shelf.get(window.image)
            if image is None:
                if self._look(window.image):
                    return wait_script(self._place, VERIFY_S)
                log("image_missing", image=window.image, about=window.node)
                return leave_script(f"image {window.image} is not here")
            if seconds := self._line.ask(window.node, now_ms):
                return wait_script(self._place, seconds)
        token = make()
        answer = self._gate.ask(uuid, mac, token.digest, now_ms)
        self._changed()
        if isinstance(answer, Refused):
            return self._refuse(msgspec.structs.replace(answer, detail=who))
        return self._begin(answer.node, answer.mac, answer.image, token.text, request)

    def _begin(self, node: NodeId, mac: str, image: ImageId, token: str, request: Request) -> str:
        ward, found = self._wards[node], self._shelf.get(image)
        assert found is not None
        ward.asked_from = request.address
        self._stage(node, "script", f"to {mac} at {request.address}, {_shown(request.query.get('plat', ''))}")
        given = Given(node=node, address=ward.order.address, mac=mac, image=image, token=token, words=found.words)
        return boot_script(self._place, given, efi=request.query.get("plat") == "efi")

    def _window_of(self, uuid: str, mac: str, now_ms: int) -> Window | None:
        """The open window through which this machine would come."""
        for window in self._gate.expected(now_ms):
            if window.guid and same_machine(window.guid, uuid):
                return window if not window.macs or plain_mac(mac) in window.macs else None
        return next((w for w in self._gate.expected(now_ms) if not w.guid and plain_mac(mac) in w.macs), None)

    def _refuse(self, refused: Refused) -> str:
        reason, node, detail = refused.reason, refused.node, refused.detail
        self._reports.tell(JoinRefused(at_ms=self._clock_ms(), reason=reason, node=node, detail=detail))
        return leave_script(refused.reason.replace("_", " "))


def _reopen(gate: Gate, was: Window) -> None:
    """Bring a window to where it was, by the same steps that led there."""
    gate.open(was.node, was.guid, was.macs, was.image, was.until_ms)
    in_time = was.until_ms - 1
    if was.token:
        gate.ask(was.guid, was.mac, was.token, in_time)
    if was.state == "spent":
        gate.redeem(was.token, was.guid, was.mac, was.image, in_time)
    if was.claims > 1:
        gate.ask(was.guid, was.mac, "", in_time)
    window = gate.window(was.node)
    if was.state == "void" and window is not None:
        window.state = "void"


def _shown(text: str) -> str:
    """What somebody sent, for a person: short, and nothing in it that a terminal obeys."""
    return quote(text[:40], safe="-:. ") or "nothing"
