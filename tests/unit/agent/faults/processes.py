"""Agents as processes, for signals that no thread outlives."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from tests.unit.agent.faults.engine_proxy import EngineProxy
from tests.unit.agent.support import DEADLINE, Cloud
from tests.unit.agent.test_process import Process

log = getLogger(__name__)


@contextmanager
def process(cloud: Cloud, proxy: EngineProxy, name: str, endpoint: str = "", **changes: str) -> Iterator[Process]:
    """An agent's process, killed at the end if it still runs; ``changes`` are variables of its environment."""
    started = Process(
        {
            "PATH": os.environ["PATH"],
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": endpoint or cloud.sqs.meta.endpoint_url,
            "QUEUE_URL": cloud.queue,
            "DEAD_LETTER_QUEUE_URL": cloud.dead_letter_queue,
            "RESULT_TOPIC_ARN": cloud.results,
            "OUTPUT_BUCKET": cloud.outputs,
            "JOBS_BUCKET": cloud.jobs,
            "ENGINE": proxy.engine,
            "RUNTIME_NAME": "sdxl",
            "RUNTIME_URL": proxy.url,
            "POD_NAME": name,
            "HEALTH_PORT": "0",
            "RECEIVE_WAIT_SECONDS": "1",
            "VISIBILITY_TIMEOUT_SECONDS": "3",
            **changes,
        }
    )
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
