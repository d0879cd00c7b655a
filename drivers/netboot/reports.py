"""What happened to machines that boot, told to the agent: at least once each, also if no agent listens just now."""

from collections import deque
from collections.abc import Callable

import msgspec

from core.events import BootSeen, JoinAdmitted, JoinRefused
from drivers.clock import wall_text
from drivers.join.crowd import Voice
from drivers.log import event as log
from drivers.netboot.wire import Told
from drivers.refusals import stamped

KEPT_MAX = 1_000
"""The oldest is lost beyond this: an agent that was away so long has a new rack to look at."""
REFUSALS_MAX, REFUSALS_MS = 20, 10_000
"""Refusals told in so long. Whoever asks again and again is not to fill the rack's journals."""

Event = BootSeen | JoinAdmitted | JoinRefused


class Reports:
    """Events in order, each with a number, kept until the agent has said that it heard them."""

    def __init__(self, clock_ms: Callable[[], int]) -> None:
        self._clock_ms = clock_ms
        self._kept: deque[Told] = deque(maxlen=KEPT_MAX)
        self._number = 0
        self._voice = Voice(REFUSALS_MAX, REFUSALS_MS)
        self.listener: Callable[[Told], None] | None = None

    @property
    def kept(self) -> tuple[Told, ...]:
        """What no agent has said to have heard, oldest first."""
        return tuple(self._kept)

    def tell(self, event: Event) -> None:
        """Tell an event, now or when somebody listens."""
        if isinstance(event, JoinRefused):
            log("boot_refused", reason=event.reason, about=event.node, detail=event.detail)
            if not self._voice.may(self._clock_ms()):
                return
            event = msgspec.structs.replace(event, detail=stamped(event.detail, wall_text()))
        elif isinstance(event, BootSeen):
            log("boot_seen", about=event.node, stage=event.stage, detail=event.detail)
        self._number += 1
        told = Told(number=self._number, event=event)
        self._kept.append(told)
        if self.listener is not None:
            self.listener(told)

    def heard(self, number: int) -> None:
        """Forget what has arrived."""
        while self._kept and self._kept[0].number <= number:
            self._kept.popleft()
