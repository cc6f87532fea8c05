"""Agents as processes, for signals that no thread outlives."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from tests.unit.agent.faults.engine_proxy import EngineProxy
from tests.unit.agent.support import DEADLINE, Cloud
from tests.unit.agent.test_process import Process

log = getLogger(__name__)


@contextmanager
def process(cloud: Cloud, proxy: EngineProxy, name: str, **changes: str) -> Iterator[Process]:
    """An agent's process, killed at the end if it still runs; ``changes`` are variables of its environment."""
    variables = {"POD_NAME": name, "VISIBILITY_TIMEOUT_SECONDS": "3", **changes}
    started = Process(cloud.environment(proxy.engine, proxy.url, **variables))
    try:
        yield started
    except BaseException:
        while not started._queue.empty():
            started.lines.append(started._queue.get())
        log.warning("the log of %s: %s", name, started.lines)
        raise
    finally:
        started.process.kill()
        started.process.wait(DEADLINE)
