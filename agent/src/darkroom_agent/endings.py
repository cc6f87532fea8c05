"""What may become of a message. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

from darkroom_contract.errors import JobError

_LONGEST_PAUSE_SECONDS = 60


@dataclass(frozen=True)
class Delete:
    """The message is answered."""


@dataclass(frozen=True)
class Release:
    """The message comes again after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class DeadLetter:
    """The message is for people to look at."""

    error: JobError


Ending: TypeAlias = Delete | Release | DeadLetter


def backoff(receives: int, patience: int = 1) -> Release:
    """Wait longer after every receive: 2, 4, 8 … 60 seconds, times ``patience``."""
    return Release(min(2 ** min(receives, 10), _LONGEST_PAUSE_SECONDS) * patience)
