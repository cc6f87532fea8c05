"""When an agent stops trying: a notification that SNS refuses, a message received too often, an engine that fails."""

import json
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ClientError

from darkroom_agent.clock import Clock
from darkroom_agent.engines.base import Output, Presence, Run
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.errors import (
    AwsUnavailableError,
    EngineFailedError,
    EngineLostError,
    EngineRefusedError,
    TimedOutError,
)
from darkroom_agent.settings import Settings
from darkroom_contract.errors import JobError, JobErrorCode
from darkroom_contract.job import Job
from darkroom_contract.store import JobStore
from darkroom_contract.types import utcnow
from darkroom_function.model_runtime import MAX_RECEIVE_COUNT
from tests.unit.agent.support import SMALL, Cloud, eventually, guidance_message, running
from tests.unit.agent.test_messages import TOO_LARGE, new_job, pictures, stale_state, submit


def receive_and_give_back(cloud: Cloud, times: int) -> None:
    for _ in range(times):
        [message] = cloud.sqs.receive_message(QueueUrl=cloud.queue, WaitTimeSeconds=1)["Messages"]
        cloud.sqs.change_message_visibility(
            QueueUrl=cloud.queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )


def test_a_notification_that_sns_refuses_keeps_the_message_and_not_the_agent(
    cloud: Cloud, webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError(
            {"Error": {"Code": "InvalidParameter"}, "ResponseMetadata": {"HTTPStatusCode": 400}},  # type: ignore[typeddict-item]
            "Publish",
        )

    cloud.sns.meta.events.register("before-call.sns.Publish", refuse)
    job = new_job()
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        submit(cloud, job)
        eventually(lambda: caplog.text.count("AWS did not take") or "AWS call failed" in caplog.text)
        eventually(lambda: cloud.store.result("default", job.job_id))
        assert cloud.count(cloud.queue) == 1
        cloud.sns.meta.events.unregister("before-call.sns.Publish", refuse)
        assert cloud.notification()["status"] == "completed"
        cloud.wait_until_empty()
    assert len(pictures(cloud, job)) == 1


def test_the_agent_knows_how_often_its_queue_lets_a_message_be_received() -> None:
    assert Settings.model_fields["max_receive_count"].default == MAX_RECEIVE_COUNT


def test_a_job_is_failed_and_told_one_receive_before_sqs_would_take_its_message(cloud: Cloud, webui: str) -> None:
    job = new_job()
    why = JobError(code=JobErrorCode.INPUT_UNAVAILABLE, message="the input's host answers 503", retryable=True)
    cloud.store.put_state("default", job.job_id, stale_state(1, why), None)
    submit(cloud, job)
    receive_and_give_back(cloud, 2)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, max_receive_count=4), cloud):
        notification = cloud.notification()
        _, attributes = cloud.dead_letter()
        cloud.wait_until_empty()
    assert notification["status"] == "failed"
    assert notification["error"] == json.loads(why.to_json())
    assert attributes["darkroom-reason"] == JobErrorCode.INPUT_UNAVAILABLE
    assert pictures(cloud, job) == []
    result = cloud.store.result("default", job.job_id)
    assert result is not None
    assert result.starts == 1


def test_a_message_that_nothing_can_be_done_about_is_moved_with_a_reason(
    cloud: Cloud, webui: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "InternalError"}}, "PutObject")

    monkeypatch.setattr(JobStore, "put_state", broken)
    submit(cloud, new_job())
    receive_and_give_back(cloud, 2)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, max_receive_count=3), cloud):
        assert cloud.dead_letter()[1]["darkroom-reason"] == JobErrorCode.AWS_UNAVAILABLE


@pytest.fixture
def broken_webui(webui: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A web UI on a GPU that does not work any more."""

    def broken(*_: Any) -> NoReturn:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("darkroom_demo.sdwebui.processing.generate", broken)
    return webui


def test_an_engine_that_fails_job_after_job_gets_no_more_and_its_probe_fails(cloud: Cloud, broken_webui: str) -> None:
    with running(cloud.settings(engine="sdwebui", runtime_url=broken_webui, max_starts=1), cloud) as agent:
        for _ in range(3):
            assert agent.health("/livez/engine") == 200
            cloud.send(guidance_message(SMALL))
            assert cloud.notification()["error"]["code"] == JobErrorCode.ENGINE_FAILED
        eventually(lambda: agent.health("/livez/engine") == 503)
        assert agent.health("/readyz") == 503
        assert agent.health("/healthz") == 200
        cloud.send(guidance_message(SMALL))
    attributes = cloud.sqs.get_queue_attributes(QueueUrl=cloud.queue, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "1"


def test_jobs_that_no_engine_could_do_cost_a_web_ui_no_restart(
    cloud: Cloud, webui: str, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [new_job(content) for content in (TOO_LARGE, TOO_LARGE, TOO_LARGE, TOO_LARGE, SMALL)]
    ended: dict[str, str] = {}
    with running(cloud.settings(engine="sdwebui", runtime_url=webui, max_starts=1), cloud) as agent:
        for job in jobs:
            submit(cloud, job)
        while len(ended) < len(jobs):
            assert agent.health("/livez/engine") == 200
            told = cloud.notification()
            ended[told["job_id"]] = told["status"]
    assert [ended[job.job_id] for job in jobs] == ["failed"] * 4 + ["completed"]
    assert "trial passed" in caplog.messages


class Engine:
    """An engine that is there or not."""

    is_there = True
    #: What it answers a job with, if not with a picture.
    trouble: Exception | None = None
    runs = 0
    is_hung = False
    ahead = 1

    def presence(self) -> Presence:
        return Presence.READY if self.is_there else Presence.AWAY

    def attach(self, picture: bytes) -> str:
        raise AssertionError("only asked whether it is there")

    def generate(self, job: Job, run: Run) -> Output:
        self.runs += 1
        if self.trouble is not None:
            raise self.trouble
        return Output((b"a picture",), {})

    def failed_response(self, job: Job, error: JobError, reason: Any) -> dict[str, Any]:
        raise AssertionError("only asked whether it is there")


def fail(watch: EngineWatch, *jobs: str, error: type[Exception] = EngineFailedError) -> None:
    for job in jobs:
        with pytest.raises(error), watch.generating(job):
            raise error("it broke")


def watch_of(runtime: Engine, engine: str = "sdwebui") -> EngineWatch:
    settings = Settings.model_validate(
        {
            "queue_url": "https://queue",
            "dead_letter_queue_url": "https://dead-letters",
            "result_topic_arn": "arn:aws:sns:eu-west-1:123456789012:results",
            "output_bucket": "outputs",
            "engine": engine,
            "runtime_name": "sdxl",
            "runtime_url": "http://127.0.0.1:7860",
        }
    )
    return EngineWatch(runtime, settings, Clock())


def look(watch: EngineWatch) -> bool:
    return watch.look(is_busy=False)


def test_an_engine_that_fails_its_trial_needs_a_restart() -> None:
    engine = Engine()
    engine.trouble = EngineFailedError("it broke")
    watch = watch_of(engine)
    fail(watch, "a", "a", "b", "c")
    assert not watch.needs_restart
    assert not look(watch)
    assert watch.needs_restart
    assert not look(watch)
    assert engine.runs == 1
    engine.is_there = False
    assert not look(watch)
    assert not watch.needs_restart
    engine.is_there = True
    assert look(watch)


def test_an_engine_that_is_doubted_gets_its_trial_when_no_job_waits_for_it_nor_is_in_it() -> None:
    engine = Engine()
    watch = watch_of(engine)
    assert look(watch)
    fail(watch, "a", "b", "c")
    assert not watch.is_trusted
    assert not look(watch)
    assert not watch.look(is_busy=True)
    assert engine.runs == 0
    assert look(watch)
    assert engine.runs == 1
    assert watch.is_trusted


def test_an_engine_that_does_nothing_but_its_trials_needs_a_restart() -> None:
    watch = watch_of(Engine())
    for _ in range(3):
        fail(watch, "a", "b", "c")
        eventually(lambda: look(watch))
    fail(watch, "a", "b", "c")
    assert watch.needs_restart
    with watch.generating("d"):
        pass
    fail(watch, "a", "b", "c")
    assert not watch.needs_restart


def test_a_web_ui_that_refuses_its_trial_for_want_of_a_checkpoint_is_not_broken() -> None:
    engine = Engine()
    engine.trouble = EngineRefusedError("the runtime has no checkpoint 'a'")
    watch = watch_of(engine)
    fail(watch, "a", "b", "c")
    assert look(watch)


@pytest.mark.parametrize("error", [TimedOutError, EngineLostError])
def test_an_engine_that_does_not_answer_gets_no_trial(error: type[Exception]) -> None:
    watch = watch_of(Engine())
    fail(watch, "a", "b")
    fail(watch, "c", error=error)
    assert watch.needs_restart


def test_a_comfyui_which_need_not_make_again_what_it_has_made_gets_no_trial() -> None:
    watch = watch_of(Engine(), engine="comfyui")
    fail(watch, "a", "b", "c")
    assert watch.needs_restart


def test_a_success_between_two_failures_keeps_the_trust() -> None:
    watch = watch_of(Engine())
    fail(watch, "a", "b")
    with watch.generating("c"):
        pass
    fail(watch, "d", "e")
    assert look(watch)


def test_what_a_job_itself_is_to_blame_for_keeps_the_trust() -> None:
    watch = watch_of(Engine())
    fail(watch, "a", "b", "c", error=EngineRefusedError)
    fail(watch, "a", "a", "a", "b", "b", "b")
    assert look(watch)


def test_jobs_that_wait_for_an_engine_that_has_failed_too_often_go_back_unharmed(
    cloud: Cloud, broken_webui: str
) -> None:
    for _ in range(12):
        submit(cloud, new_job(SMALL))
    with running(cloud.settings(engine="sdwebui", runtime_url=broken_webui, max_starts=1), cloud) as agent:
        eventually(lambda: agent.health("/livez/engine") == 503)
        eventually(lambda: cloud.in_flight() == 0)
    assert 3 <= cloud.count(cloud.result_queue) <= 4  # the fourth was in the engine when the third failed


def test_a_job_whose_result_cannot_be_recorded_need_not_wait_for_its_own_lease(
    cloud: Cloud, webui: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise AwsUnavailableError("AWS did not take the job's result")

    def is_free() -> bool:
        found = cloud.store.state("default", job.job_id)
        return bool(found and found[0].lease_until <= utcnow())

    job = new_job()
    monkeypatch.setattr(JobStore, "create_result", broken)
    submit(cloud, job)
    with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
        eventually(is_free)


def test_while_the_records_cannot_be_written_messages_are_left_on_the_queue(
    cloud: Cloud, webui: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "InternalError"}}, "PutObject")

    for _ in range(20):
        submit(cloud, new_job())
    with monkeypatch.context() as patch:
        patch.setattr(JobStore, "put_state", broken)
        with running(cloud.settings(engine="sdwebui", runtime_url=webui), cloud):
            eventually(lambda: caplog.text.count("AWS call failed") >= 3)
            assert caplog.text.count("AWS call failed") < 20
            patch.undo()
            for _ in range(20):
                assert cloud.notification()["status"] == "completed"
