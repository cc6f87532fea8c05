"""What a look at one link of the chain says. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How it stands with a link."""

    OK = "ok"
    WRONG = "wrong"
    #: It could not be looked at.
    UNKNOWN = "unknown"
    #: There is no such link in this cluster.
    ABSENT = "absent"


@dataclass(frozen=True)
class Finding:
    """How it stands with a link, in a sentence, and what to do about it."""

    health: Health
    words: str
    #: Commands, or sentences where there is none.
    remedy: tuple[str, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether it keeps pictures from coming."""
        return self.health is Health.WRONG


def ok(words: str) -> Finding:
    """The link holds."""
    return Finding(Health.OK, words)


def wrong(words: str, *remedy: str) -> Finding:
    """The link is broken; ``remedy`` has what mends it."""
    return Finding(Health.WRONG, words, remedy)


def unknown(words: str, *remedy: str) -> Finding:
    """The link could not be looked at; ``remedy`` has what would let it."""
    return Finding(Health.UNKNOWN, words, remedy)


def absent(words: str) -> Finding:
    """The cluster has no such link."""
    return Finding(Health.ABSENT, words)
