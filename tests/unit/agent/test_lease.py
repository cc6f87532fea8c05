"""The hold on a job: writes whose answers are lost, and holds that another agent takes."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from darkroom_agent.clock import Clock
from darkroom_agent.records import Claim, HeldElsewhere, StoredRecords
from darkroom_contract.job import Job
from darkroom_contract.records import ResultRecord, StateRecord
from darkroom_contract.store import JobStore, StateConflict
from darkroom_contract.types import utcnow
from tests.unit.agent.support import SMALL, Cloud, ToldClock, eventually, guidance_message, held_message, running
from tests.unit.agent.test_messages import new_job, stale_state, submit


class AnswersLost(JobStore):
    """Its writes of states come twice, as the SDK repeats those without an answer."""

    def put_state(self, tenant: str, job_id: str, state: StateRecord, etag: str | None) -> str:
        super().put_state(tenant, job_id, state, etag)
        return super().put_state(tenant, job_id, state, etag)


def records(store: JobStore) -> StoredRecords:
    return StoredRecords(store, "pod", 60, Clock())


def claimed(cloud: Cloud, job: Job) -> Claim:
    claim = records(cloud.store).claim(job, held_message(Clock()))
    assert not isinstance(claim, HeldElsewhere)
    return claim  # type: ignore[return-value]


def state_of(cloud: Cloud, job: Job) -> tuple[StateRecord, str]:
    found = cloud.store.state(job.tenant, job.job_id)
    assert found is not None
    return found


def change(cloud: Cloud, job: Job, **update: object) -> None:
    """Change the state as somebody else does, while its holder may change it too."""

    def attempt() -> bool:
        state, etag = state_of(cloud, job)
        try:
            return bool(cloud.store.put_state(job.tenant, job.job_id, state.model_copy(update=update), etag))
        except StateConflict:
            return False

    eventually(attempt)


def test_a_hold_is_given_back_although_the_answer_to_a_heartbeat_was_lost(cloud: Cloud) -> None:
    job = new_job()
    claim = claimed(cloud, job)
    change(cloud, job, progress=0.5)
    claim.give_back(None, counts=False)
    state, _ = state_of(cloud, job)
    assert state.starts == 0
    assert state.lease_until <= utcnow()


def test_a_hold_that_another_agent_took_is_lost_and_its_state_left_alone(cloud: Cloud) -> None:
    job = new_job()
    claim = claimed(cloud, job)
    change(cloud, job, holder="other")
    claim.renew(0.5, has_begun=True)
    assert claim.is_lost
    claim.give_back(None, counts=True)
    state, _ = state_of(cloud, job)
    assert state.lease_until > utcnow()
    assert state.progress == 0


@pytest.mark.parametrize("starts", [0, 1])
def test_a_claim_whose_answer_was_lost_is_the_agents_own(cloud: Cloud, starts: int) -> None:
    """A first one, and one that takes a job over."""
    job = new_job()
    if starts:
        cloud.store.put_state(job.tenant, job.job_id, stale_state(starts), None)
    claim = records(AnswersLost(cloud.s3, cloud.jobs)).claim(job, held_message(Clock()))
    assert not isinstance(claim, HeldElsewhere)
    assert claim.starts == starts + 1


def is_idle(url: str) -> bool:
    return bool(httpx.get(f"{url}/sdapi/v1/progress").json()["state"]["job_count"] == 0)


def is_running(cloud: Cloud, job: Job) -> bool:
    found = cloud.store.state(job.tenant, job.job_id)
    return bool(found and found[0].progress > 0)


def test_a_run_whose_lease_another_agent_took_is_interrupted_and_delivers_nothing(
    cloud: Cloud, slow_webui: str
) -> None:
    job = new_job({**SMALL, "steps": 150})
    submit(cloud, job)
    settings = cloud.settings(engine="sdwebui", runtime_url=slow_webui, visibility_timeout_seconds=3)
    with running(settings, cloud):
        eventually(lambda: is_running(cloud, job))
        later = utcnow() + timedelta(seconds=60)
        change(cloud, job, holder="other", started_at=utcnow(), starts=2, lease_until=later)
        eventually(lambda: is_idle(slow_webui))
    assert cloud.store.result("default", job.job_id) is None
    assert cloud.count(cloud.result_queue) == 0


def test_with_records_a_run_outlives_its_message_since_only_one_result_can_count(cloud: Cloud, slow_webui: str) -> None:
    job = new_job({**SMALL, "steps": 12})
    submit(cloud, job)
    settings = cloud.settings(engine="sdwebui", runtime_url=slow_webui, visibility_timeout_seconds=3)
    with running(settings, cloud):
        eventually(lambda: is_running(cloud, job))
        cloud.sqs.purge_queue(QueueUrl=cloud.queue)
        assert cloud.notification()["status"] == "completed"


def test_without_records_a_run_whose_message_is_lost_is_interrupted_and_delivers_nothing(
    cloud: Cloud, slow_webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.send(guidance_message({**SMALL, "steps": 150}))
    settings = cloud.settings(engine="sdwebui", runtime_url=slow_webui, jobs_bucket=None, visibility_timeout_seconds=3)
    with caplog.at_level("INFO", "darkroom_agent"), running(settings, cloud):
        eventually(lambda: "job starts" in caplog.text)
        cloud.sqs.purge_queue(QueueUrl=cloud.queue)
        eventually(lambda: "job handed back" in caplog.text)
        assert is_idle(slow_webui)
    assert cloud.count(cloud.result_queue) == 0


def test_a_hold_that_was_over_once_is_lost_whatever_comes_later() -> None:
    message = held_message(Clock())
    assert not message.is_lost
    message.held_until = message.clock.now()
    assert message.is_lost


def test_a_lease_is_renewed_by_the_agents_own_clock_though_the_hosts_was_set_back(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, clock = new_job(), ToldClock()
    claim = StoredRecords(cloud.store, "pod", 60, clock).claim(job, held_message(clock))
    assert not isinstance(claim, HeldElsewhere | ResultRecord)
    before, etag = state_of(cloud, job)
    monkeypatch.setattr("darkroom_agent.records.utcnow", lambda: utcnow() - timedelta(hours=1))
    claim.renew(0.0, has_begun=False)
    assert state_of(cloud, job)[1] == etag
    clock.time += 21
    claim.renew(0.0, has_begun=False)
    renewed, _ = state_of(cloud, job)
    assert renewed.updated_at < before.updated_at
    assert state_of(cloud, job)[1] != etag


def test_a_lease_from_a_host_whose_clock_is_ahead_is_waited_for_no_longer_than_a_lease_lasts(cloud: Cloud) -> None:
    job = new_job()
    later = utcnow() + timedelta(hours=1)
    cloud.store.put_state(job.tenant, job.job_id, stale_state(1).model_copy(update={"lease_until": later}), None)
    held = records(cloud.store).claim(job, held_message(Clock()))
    assert isinstance(held, HeldElsewhere)
    assert held.seconds <= 60


def test_the_trouble_with_one_jobs_lease_is_none_of_the_others(
    cloud: Cloud, slow_webui: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky, lucky = new_job({**SMALL, "steps": 6}), new_job({**SMALL, "steps": 12})
    put_state = JobStore.put_state

    def conflicting(store: JobStore, tenant: str, job_id: str, state: StateRecord, etag: str | None) -> str:
        if job_id == unlucky.job_id and etag:
            raise StateConflict
        return put_state(store, tenant, job_id, state, etag)

    monkeypatch.setattr(JobStore, "put_state", conflicting)
    submit(cloud, unlucky)
    submit(cloud, lucky)
    with running(cloud.settings(engine="sdwebui", runtime_url=slow_webui), cloud):
        eventually(lambda: is_running(cloud, lucky))
        assert {cloud.notification()["status"] for _ in range(2)} == {"completed"}


def test_without_records_nothing_is_told_of_a_job_whose_message_is_lost_while_it_is_saved(
    cloud: Cloud, webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    def outlast_the_hold(request: Any, **_: Any) -> None:
        if request.url.endswith(".png"):
            cloud.sqs.purge_queue(QueueUrl=cloud.queue)
            eventually(lambda: "message lost" in caplog.text)

    cloud.s3.meta.events.register("before-send.s3.PutObject", outlast_the_hold)
    cloud.send(guidance_message(SMALL))
    settings = cloud.settings(engine="sdwebui", runtime_url=webui, jobs_bucket=None, visibility_timeout_seconds=3)
    with caplog.at_level("INFO", "darkroom_agent"), running(settings, cloud):
        eventually(lambda: "job handed back" in caplog.text)
    assert cloud.count(cloud.result_queue) == 0
