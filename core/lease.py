"""How a holder proves and settles its lease: the checks every write carries, and the read-back."""

from core import effects as fx
from core.brain import Brain
from core.errors import InvariantViolation
from core.records import TermRecord, lease_path, term_path
from core.state import Singleton, Subject


def lease_check(s: Singleton) -> fx.Check:
    """Fails unless the lease made by this claim still exists; with the term's version it is ours at this epoch."""
    return fx.Check(path=lease_path(s.name), version=0)


def term_check(s: Singleton) -> fx.Check:
    return fx.Check(path=term_path(s.name), version=s.term_version)


def term_put(s: Singleton, term: TermRecord) -> fx.Put:
    return fx.Put(path=term_path(s.name), data=term, version=s.term_version)


def held_term(s: Singleton) -> TermRecord:
    """The term of a singleton that we hold.

    Raises: InvariantViolation if there is none.
    """
    if s.term is None:
        raise InvariantViolation(f"{s.name}: no term")
    return s.term


def settle(b: Brain, s: Singleton) -> None:
    """Read term, lease and our member record back in this session: an outcome is never guessed (rule 12)."""
    paths = (term_path(s.name), lease_path(s.name), b.own_member_path())
    s.op = b.read(Subject.SINGLETON, s.name, "settle", paths)
