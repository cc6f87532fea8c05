"""The hold on a job: writes whose answers are lost, and holds that another agent takes."""

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from darkroom_agent.records import Claim, HeldElsewhere, StoredRecords
from darkroom_contract.job import Job
from darkroom_contract.records import StateRecord
from darkroom_contract.store import JobStore, StateConflict
from darkroom_contract.types import utcnow
from tests.unit.agent.support import SMALL, Cloud, eventually, running
from tests.unit.agent.test_messages import new_job, stale_state, submit


class AnswersLost(JobStore):
    """Its writes of states come twice, as the SDK repeats those without an answer."""

    def put_state(self, tenant: str, job_id: str, state: StateRecord, etag: str | None) -> str:
        super().put_state(tenant, job_id, state, etag)
        return super().put_state(tenant, job_id, state, etag)


def records(store: JobStore) -> StoredRecords:
    return StoredRecords(store, "pod", 60)


def claimed(cloud: Cloud, job: Job) -> Claim:
    claim = records(cloud.store).claim(job, 1)
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
    claim.renew(0.5)
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
    claim = records(AnswersLost(cloud.s3, cloud.jobs)).claim(job, 1)
    assert not isinstance(claim, HeldElsewhere)
    assert state_of(cloud, job)[0].starts == starts + 1


def lose_lease(cloud: Cloud, job: Job) -> None:
    later = utcnow() + timedelta(seconds=60)
    change(cloud, job, holder="other", started_at=utcnow(), starts=2, lease_until=later)


def lose_message(cloud: Cloud, job: Job) -> None:
    cloud.sqs.purge_queue(QueueUrl=cloud.queue)


@pytest.mark.parametrize("lose", [lose_lease, lose_message])
def test_a_run_whose_hold_is_lost_is_interrupted_and_delivers_nothing(
    cloud: Cloud, slow_webui: str, lose: Callable[[Cloud, Job], None]
) -> None:
    job = new_job({**SMALL, "steps": 150})
    submit(cloud, job)
    settings = cloud.settings(engine="sdwebui", runtime_url=slow_webui, visibility_timeout_seconds=3)
    with running(settings, cloud):
        eventually(lambda: (found := cloud.store.state("default", job.job_id)) and found[0].progress > 0)
        lose(cloud, job)
        eventually(lambda: httpx.get(f"{slow_webui}/sdapi/v1/progress").json()["state"]["job_count"] == 0)
    assert cloud.store.result("default", job.job_id) is None
    assert cloud.count(cloud.result_queue) == 0
