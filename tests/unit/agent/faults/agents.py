"""Agents with AWS clients and a clock of their own, and what is to be true of every job at its end."""

import json
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from darkroom_contract.records import ResultRecord, StateRecord
from darkroom_contract.v1 import JobStatus
from tests.unit.agent.faults.engine_proxy import EngineProxy
from tests.unit.agent.faults.gpu import is_picture_of
from tests.unit.agent.support import Cloud, RunningAgent, eventually


@contextmanager
def kubelet(agent: RunningAgent, proxy: EngineProxy) -> Iterator[list[float]]:
    """Restart the engine whenever its liveness probe fails; gives the list of the restarts."""
    ended = threading.Event()
    restarts: list[float] = []

    def probe() -> None:
        while not ended.wait(0.1):
            if agent.health("/livez/engine") == 503:
                proxy.mend()
                proxy.restart()
                restarts.append(agent.agent._lifecycle.clock.now())
                eventually(lambda: ended.is_set() or agent.health("/livez/engine") == 200)

    thread = threading.Thread(target=probe, name="kubelet")
    thread.start()
    try:
        yield restarts
    finally:
        ended.set()
        thread.join()


def result_of(cloud: Cloud, job_id: str) -> ResultRecord | None:
    """A job's result, once there is one."""
    return cloud.store.result("default", job_id)


def state_of(cloud: Cloud, job_id: str) -> StateRecord | None:
    """A job's state, once there is one."""
    found = cloud.store.state("default", job_id)
    return found[0] if found else None


Told: TypeAlias = dict[str, list[dict[str, Any]]]


def collect(cloud: Cloud, told: Told) -> None:
    """Take the next notifications off their queue, and add them to those that were told before, by their jobs.

    It waits for a second. To ask for each result again and again would keep the emulator busy.
    """
    answer = cloud.sqs.receive_message(QueueUrl=cloud.result_queue, WaitTimeSeconds=1, MaxNumberOfMessages=10)
    for received in answer.get("Messages", []):
        cloud.sqs.delete_message(QueueUrl=cloud.result_queue, ReceiptHandle=received["ReceiptHandle"])
        notification = json.loads(received["Body"])
        told.setdefault(notification["job_id"], []).append(notification)


def everything_told(cloud: Cloud, jobs: Collection[str], meanwhile: Callable[[], None] = lambda: None) -> Told:
    """The notifications of all jobs, once each has one and nothing is left on the queue."""
    told: Told = {}

    def is_over() -> bool:
        collect(cloud, told)
        meanwhile()
        # The emulator counts messages that are seen and messages that are not one after the other, and may miss one.
        return set(jobs) <= set(told) and not any(cloud.count(cloud.queue) for _ in range(2))

    eventually(is_over)
    while cloud.count(cloud.result_queue):
        collect(cloud, told)
    return told


def assert_ended_once(cloud: Cloud, jobs: dict[str, int]) -> None:
    """Of each job (its id and its seed) there is one result; it is told, and its picture is the right one.

    Waits until nothing is left on the queue.
    """
    told = everything_told(cloud, jobs)
    assert set(told) == set(jobs), f"told: {told}"
    for job_id, seed in jobs.items():
        result = assert_told_as_recorded(cloud, job_id, told)
        assert result.status is JobStatus.COMPLETED, result.error
        assert_picture(cloud, result, seed)


def assert_told_as_recorded(cloud: Cloud, job_id: str, told: Told) -> ResultRecord:
    """A job's result; all its notifications tell that one."""
    result = result_of(cloud, job_id)
    assert result is not None
    for notification in told[job_id]:
        assert (notification["status"], tuple(notification["image_url"])) == (result.status, result.images)
    return result


def assert_picture(cloud: Cloud, result: ResultRecord, seed: int) -> None:
    """A job's one picture is that of its seed."""
    [url] = result.images
    assert is_picture_of(cloud.read(url)[0], seed)
