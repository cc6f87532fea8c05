"""Messages that are no jobs, that come twice, that take long, and whose hold is lost."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from moto.sqs.models import sqs_backends

from darkroom_contract.errors import JobErrorCode
from darkroom_contract.store import StateConflict
from darkroom_contract.types import utcnow
from tests.unit.agent.faults.agents import assert_ended_once, everything_told, state_of
from tests.unit.agent.faults.clocks import fast_world
from tests.unit.agent.faults.engine_proxy import EngineProxy, proxied
from tests.unit.agent.faults.gpu import content, message
from tests.unit.agent.support import Cloud, at_work, eventually, held
from tests.unit.agent.test_messages import message_of, new_job, submit

MALFORMED = (
    "",
    "poison",
    "\x7f\ufffd",
    "[]",
    "null",
    "{}",
    '{"metadata": null, "content": {}}',
    '{"metadata": {"id": "a"}, "content": "none"}',
    '{"metadata": {"id": "a", "prefix": "../b"}, "content": {}}',
    '{"Type": "Notification", "MessageId": "m", "Message": "poison"}',
    '{"Type": "Notification", "MessageId": "m", "Message": {}}',
    '{"metadata": {"id": "a"}, "content": {"seed": NaN}}',
    "[" * 10_000,
)
SLOW = 0.05
LONG = 30


@contextmanager
def two_agents(cloud: Cloud, **settings: Any) -> Iterator[list[EngineProxy]]:
    """Two agents, each beside an engine of its own."""
    with ExitStack() as stack:
        clock = stack.enter_context(fast_world(4))
        proxies = [stack.enter_context(proxied("sdwebui", SLOW)) for _ in range(2)]
        for proxy in proxies:
            values = cloud.settings(engine="sdwebui", runtime_url=proxy.url, pod_name=proxy.url, **settings)
            stack.enter_context(at_work(values, cloud.clients, clock))
        yield proxies


def begun(proxies: list[EngineProxy]) -> list[int]:
    """The seeds of the runs of all engines."""
    return sorted(seed for proxy in proxies for seed in proxy.gpu.begun)


def test_malformed_messages_go_to_the_dead_letter_queue_and_jobs_between_them_are_done(cloud: Cloud) -> None:
    bodies = [body or " " for body in MALFORMED]
    with two_agents(cloud):
        jobs = {}
        for seed, body in enumerate(bodies, 1):
            cloud.send(body)
            jobs[cloud.send(message("sdwebui", seed))] = seed
        assert_ended_once(cloud, jobs)
    letters = [cloud.dead_letter() for _ in bodies]
    assert sorted(body for body, _ in letters) == sorted(bodies)
    assert {reason["darkroom-reason"] for _, reason in letters} == {JobErrorCode.INVALID_TASK}


def test_a_message_that_comes_twice_is_one_job(cloud: Cloud) -> None:
    """With a job of the API's, and with one that SNS delivers twice to the queue."""
    job = new_job(content("sdwebui", 1, LONG))
    submit(cloud, job)
    cloud.send(message_of(job))
    direct = str(uuid4())
    text = json.dumps(message("sdwebui", 2, LONG))
    for _ in range(2):
        cloud.send(json.dumps({"Type": "Notification", "MessageId": direct, "Message": text}))
    with two_agents(cloud, visibility_timeout_seconds=12) as proxies:
        assert_ended_once(cloud, {job.job_id: 1, direct: 2})
    assert begun(proxies) == [1, 2]
    assert cloud.count(cloud.dead_letter_queue) == 0


def test_a_message_that_comes_again_after_its_job_was_done_is_told_the_same_result(cloud: Cloud) -> None:
    job = new_job(content("sdwebui", 1))
    with two_agents(cloud) as proxies:
        submit(cloud, job)
        first = everything_told(cloud, [job.job_id])
        cloud.send(message_of(job))
        assert everything_told(cloud, [job.job_id]) == first
    assert begun(proxies) == [1]


def test_a_job_longer_than_the_visibility_timeout_is_run_once_and_received_once(cloud: Cloud) -> None:
    with two_agents(cloud, visibility_timeout_seconds=10) as proxies:
        job_id = cloud.send(message("sdwebui", 1, steps=200))
        assert_ended_once(cloud, {job_id: 1})
    state = state_of(cloud, job_id)
    assert state is not None
    assert (state.updated_at - state.started_at).total_seconds() > 10
    assert state.starts == 1
    assert begun(proxies) == [1]


def lose_lease(cloud: Cloud, job_id: str) -> None:
    """Another agent has it, for a while."""
    state, etag = cloud.store.state("default", job_id) or pytest.fail("no state")
    other = {"holder": "other", "started_at": utcnow(), "lease_until": utcnow() + timedelta(seconds=6)}
    cloud.store.put_state("default", job_id, state.model_copy(update=other), etag)


def lose_message(cloud: Cloud, job_id: str) -> None:
    """It is visible again, as after a visibility timeout."""
    _, _, _, account, name = cloud.queue.split("/")
    for queued in sqs_backends[account]["us-east-1"].get_queue(name)._messages:
        queued.change_visibility(0)


@pytest.mark.parametrize(("lose", "runs"), [(lose_lease, [1, 1]), (lose_message, [1])])
def test_a_job_whose_hold_is_lost_ends_once(cloud: Cloud, lose: Callable[[Cloud, str], None], runs: list[int]) -> None:
    """Who has lost the lease stops; a message that another agent gets is given back while the lease lasts."""
    job = new_job(content("sdwebui", 1, steps=60))
    submit(cloud, job)
    with two_agents(cloud, visibility_timeout_seconds=6) as proxies:
        with held(*(proxy.tempo for proxy in proxies)):
            eventually(lambda: begun(proxies))
            eventually(lambda: _succeeds(lambda: lose(cloud, job.job_id)))
        assert_ended_once(cloud, {job.job_id: 1})
    assert begun(proxies) == runs


def _succeeds(call: Callable[[], None]) -> bool:
    try:
        call()
    except StateConflict:
        return False
    return True
