"""One sentence for the outcome of each operation that touches a singleton."""

from core import effects as fx
from core import events as ev
from core.records import LEASES, TermRecord

Operation = (
    fx.OpenVolume
    | fx.CloseVolume
    | fx.FenceInstance
    | fx.StartService
    | fx.StopService
    | fx.CloseSession
    | fx.ReadPower
    | fx.PowerOrder
    | fx.Commit
)
"""What an answer may be told about."""
Said = tuple[str, str, str, int]
"""Kind, text, node concerned and epoch; an empty kind for what is of no interest."""


def succeeded(effect: Operation, result: ev.Result) -> Said:
    """Say that an operation worked, and what came of it."""
    match effect:
        case fx.FenceInstance():
            old = effect.instance
            text = f"the storage confirms the fence of {old.address}, {old.node}'s opening of epoch {old.epoch}"
            return "fenced", text, old.node, 0
        case fx.OpenVolume():
            address = result.instance.address if isinstance(result, ev.VolumeOpened) else "?"
            return "opened", f"opened volume {effect.volume} as {address}", "", effect.epoch
        case fx.CloseVolume():
            return "closed", f"flushed and closed volume {effect.volume}", "", effect.instance.epoch
        case fx.StartService():
            return "started_service", "the service has recovered and is healthy", "", effect.epoch
        case fx.StopService():
            clean = isinstance(result, ev.Stopped) and result.clean
            return "stopped_service", f"the service stopped {'cleanly' if clean else 'uncleanly'}", "", effect.epoch
        case fx.CloseSession():
            return "closed_session", f"closed session {effect.session:#x} ahead of its expiry", "", 0
        case fx.ReadPower() | fx.PowerOrder():
            state = "on" if isinstance(result, ev.PowerSeen) and result.on else "off"
            order = "" if isinstance(effect, fx.ReadPower) else f" after the order '{effect.action}'"
            return f"power_{state}", f"the BMC of {effect.node} reports '{state}'{order}", effect.node, 0
        case fx.Commit():
            return _committed(effect)


def _committed(commit: fx.Commit) -> Said:
    """What a commit on the term or lease of the service did, by what it wrote."""
    term = _term(commit)
    creates = any(isinstance(w, fx.Create) and w.path.startswith(LEASES) for w in commit.writes)
    removes = any(isinstance(w, fx.Remove) and w.path.startswith(LEASES) for w in commit.writes)
    if term is None:
        return ("gave_lease", "deleted its lease", "", 0) if removes else ("", "", "", 0)
    if creates:
        left = f"; {len(term.unfenced)} earlier openings to fence" if term.unfenced else "; nothing to fence"
        return "claim", f"claimed with epoch {term.epoch} in one transaction{left}", "", term.epoch
    if removes:
        kind = "released_unclean" if term.unclean else "released"
        how = "without a clean stop" if term.unclean else "after a clean stop, and marked its openings released"
        return kind, f"gave the lease up {how}", "", term.epoch
    if term.serving:
        return "admitted", "recorded that it admits clients", "", term.epoch
    if term.identities:
        text = f"recorded its own opening {term.identities[-1].address} before the first write"
        return "recorded", text, "", term.epoch
    return "term", "updated the term", "", term.epoch


def _term(commit: fx.Commit) -> TermRecord | None:
    for write in commit.writes:
        if isinstance(write, fx.Create | fx.Put) and isinstance(write.data, TermRecord):
            return write.data
    return None


def failed(effect: Operation, why: str) -> Said:
    """Say that an operation failed; ``why`` is its reason, with detail."""
    match effect:
        case fx.FenceInstance():
            return "fence_failed", f"the fence of {effect.instance.address} was not confirmed ({why})", "", 0
        case fx.OpenVolume():
            return "open_failed", f"could not open volume {effect.volume} ({why})", "", effect.epoch
        case fx.StartService():
            return "start_failed", f"could not start the service ({why})", "", effect.epoch
        case fx.CloseVolume() | fx.StopService():
            return "stop_failed", f"could not stop cleanly ({why})", "", 0
        case fx.CloseSession():
            return "close_failed", f"could not close session {effect.session:#x} ({why})", "", 0
        case fx.ReadPower() | fx.PowerOrder():
            return "power_unknown", f"the BMC of {effect.node} does not help ({why})", effect.node, 0
        case fx.Commit():
            term = _term(effect)
            creates = any(isinstance(w, fx.Create) and w.path.startswith(LEASES) for w in effect.writes)
            if creates and term is not None:
                return "claim_failed", f"tried to claim with epoch {term.epoch} and failed ({why})", "", term.epoch
            return "commit_failed", f"a commit on the term failed ({why})", "", 0
