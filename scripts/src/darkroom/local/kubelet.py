"""What the kubelet does for pods, for child processes: whether one is started again, and whether an engine is alive."""

import socket
import time
from collections.abc import Callable
from logging import getLogger

import httpx

from darkroom.local.processes import Child, ProcessFailed

log = getLogger(__name__)

#: How often a child that ends is started again before that counts as no use.
_MOST_RESTARTS = 3
#: After so long without one, its restarts are forgotten.
_FORGET_SECONDS = 60.0
#: An agent looks at an engine that it does not trust every five seconds at least.
_AWAY_SECONDS = 15.0


class Restarts:
    """The latest restarts of each child. ``now`` tells the time, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._latest: dict[str, list[float]] = {}

    def has_to_restart(self, child: Child) -> bool:
        """Whether a child ended and is to be started again; raises ``ProcessFailed`` when that is no use."""
        if child.running:
            return False
        latest = self._latest.setdefault(child.name, [])
        if latest and self._now() - latest[-1] > _FORGET_SECONDS:
            latest.clear()
        if len(latest) == _MOST_RESTARTS:
            raise ProcessFailed(
                f"{child.name} ended again and again: it was started {_MOST_RESTARTS} times more, the limit without a "
                f"pause of {_FORGET_SECONDS:.0f} seconds in between; its log, {child.log_path}, ends with\n"
                f"{child.log_tail()}"
            )
        latest.append(self._now())
        log.warning("%s ended and is started again", child.name)
        return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def is_distrusted(health_url: str) -> bool:
    """Whether an agent says that its engine has to be restarted; one that says nothing does not say that."""
    try:
        return httpx.get(f"{health_url}/livez/engine", timeout=2).status_code == httpx.codes.SERVICE_UNAVAILABLE
    except httpx.HTTPError:
        return False


def wait_until_trusted(health_url: str) -> None:
    """Wait until an agent has seen that its engine is away; it looks every few seconds."""
    give_up = time.monotonic() + _AWAY_SECONDS
    while is_distrusted(health_url) and time.monotonic() < give_up:
        time.sleep(0.1)
