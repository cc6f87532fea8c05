"""What becomes of jobs when S3, SNS or SQS fail: for one call, for minutes, or until somebody grants a permission."""

import threading

import pytest

from tests.unit.agent.faults.agents import assert_ended_once, result_of
from tests.unit.agent.faults.aws_faults import Fault, FaultyAws
from tests.unit.agent.faults.clocks import fast_world
from tests.unit.agent.faults.engine_proxy import proxied
from tests.unit.agent.faults.gpu import content, message
from tests.unit.agent.support import Cloud, at_work, eventually, held
from tests.unit.agent.test_messages import new_job, submit

#: Every call that the agent makes for a job.
CALLS = (
    "sqs.ReceiveMessage",
    "s3.GetObject .*/request[.]json",
    "s3.PutObject .*/state[.]json",
    "s3.GetObject .*/cancel",
    "s3.PutObject .*[.]png",
    "s3.PutObject .*[.]out",
    "s3.PutObject .*/result[.]json",
    "sns.Publish",
    "sqs.DeleteMessage",
)
#: Longer than a visibility timeout and a lease, and shorter than the agent's patience.
LONG_OUTAGE_SECONDS = 120
VERY_LONG_OUTAGE_SECONDS = 330


@pytest.fixture
def aws(aws_endpoint: str) -> FaultyAws:
    return FaultyAws(aws_endpoint)


@pytest.mark.parametrize("fault", list(Fault))
def test_no_single_call_that_fails_costs_the_gpu_a_run(cloud: Cloud, aws: FaultyAws, fault: Fault) -> None:
    """Whether AWS has done what was asked, or not."""
    with proxied("sdwebui") as proxy, fast_world(5) as clock:
        settings = cloud.settings(engine="sdwebui", runtime_url=proxy.url, visibility_timeout_seconds=6)
        with at_work(settings, aws.clients, clock):
            for seed, call in enumerate(CALLS, 1):
                aws.fail(call, fault, times=1)
                job = new_job(content("sdwebui", seed))
                submit(cloud, job)
                assert_ended_once(cloud, {job.job_id: seed})
                assert aws.failed == seed
    assert proxy.gpu.begun == list(range(1, len(CALLS) + 1))


@pytest.mark.parametrize("service", ["s3", "sns", "sqs", pytest.param("s3|sns|sqs", marks=pytest.mark.slow)])
def test_a_job_in_a_long_outage_is_told_after_it_and_not_run_again(cloud: Cloud, aws: FaultyAws, service: str) -> None:
    with proxied("sdwebui", seconds_per_step=0.05) as proxy, fast_world(30) as clock:
        settings = cloud.settings(engine="sdwebui", runtime_url=proxy.url)
        with at_work(settings, aws.clients, clock):
            with held(proxy.tempo):
                jobs = {cloud.send(message("sdwebui", 1, steps=10)): 1}
                eventually(lambda: proxy.gpu.begun)
                aws.fail(service, Fault.UNREACHABLE)
            jobs[cloud.send(message("sdwebui", 2))] = 2
            clock.sleep(LONG_OUTAGE_SECONDS)
            assert cloud.count(cloud.result_queue) == (1 if service == "sqs" else 0)
            aws.mend()
            assert_ended_once(cloud, jobs)
    assert proxy.gpu.begun == [1, 2]


@pytest.mark.slow
def test_a_job_is_not_lost_in_an_outage_that_is_longer_than_the_agents_patience(cloud: Cloud, aws: FaultyAws) -> None:
    with proxied("sdwebui", seconds_per_step=0.05) as proxy, fast_world(50) as clock:
        settings = cloud.settings(engine="sdwebui", runtime_url=proxy.url)
        with at_work(settings, aws.clients, clock):
            with held(proxy.tempo):
                jobs = {cloud.send(message("sdwebui", 1, steps=10)): 1}
                eventually(lambda: proxy.gpu.begun)
                aws.fail("s3", Fault.UNREACHABLE)
            clock.sleep(VERY_LONG_OUTAGE_SECONDS)
            aws.mend()
            assert_ended_once(cloud, jobs)
    assert proxy.gpu.begun == [1, 1]


@pytest.mark.parametrize("service", ["s3", "sns", "sqs"])
def test_what_is_denied_is_done_as_soon_as_it_is_granted(cloud: Cloud, aws: FaultyAws, service: str) -> None:
    aws.fail(service, Fault.DENIED)
    with proxied("sdwebui") as proxy, fast_world(10) as clock:
        settings = cloud.settings(engine="sdwebui", runtime_url=proxy.url)
        with at_work(settings, aws.clients, clock) as agent:
            jobs = {cloud.send(message("sdwebui", seed)): seed for seed in (1, 2)}
            eventually(lambda: aws.failed > 3)
            assert agent.health("/healthz") == 200
            assert cloud.count(cloud.result_queue) == 0
            aws.mend()
            assert_ended_once(cloud, jobs)
    assert sorted(proxy.gpu.begun) == [1, 2]


def test_a_job_whose_pictures_are_denied_their_bucket_waits_for_the_grant_with_its_pictures(
    cloud: Cloud, aws: FaultyAws
) -> None:
    aws.fail(f"s3.PutObject .*{cloud.outputs}", Fault.DENIED)
    with proxied("comfyui") as proxy, fast_world(10) as clock:
        settings = cloud.settings(engine="comfyui", runtime_url=proxy.url)
        with at_work(settings, aws.clients, clock):
            job_id = cloud.send(message("comfyui", 1))
            eventually(lambda: aws.failed > 3)
            aws.mend()
            assert_ended_once(cloud, {job_id: 1})
    assert proxy.gpu.begun == [1]


def test_an_agent_that_stops_in_an_outage_ends_in_its_budget_and_leaves_the_job_to_the_next(
    cloud: Cloud, aws: FaultyAws
) -> None:
    with proxied("sdwebui") as proxy, fast_world(10) as clock:
        settings = cloud.settings(
            engine="sdwebui", runtime_url=proxy.url, shutdown_budget_seconds=20, visibility_timeout_seconds=20
        )
        with at_work(settings, aws.clients, clock) as agent:
            aws.fail("s3.PutObject .*[.]png", Fault.UNREACHABLE)
            job_id = cloud.send(message("sdwebui", 1))
            eventually(lambda: aws.failed)
            began = clock.now()
            agent.stop()
            assert clock.now() - began < 60
        assert result_of(cloud, job_id) is None
        assert cloud.count(cloud.result_queue) == 0
        with at_work(settings.model_copy(update={"pod_name": "next"}), cloud.clients, clock):
            assert_ended_once(cloud, {job_id: 1})
    assert proxy.gpu.begun == [1, 1]


@pytest.mark.parametrize(
    ("call", "fault"),
    [("s3.PutObject .*/state[.]json", Fault.ANSWER_LOST), ("s3.GetObject .*/cancel", Fault.UNREACHABLE)],
)
def test_only_a_run_that_the_gpu_began_counts_as_a_start(cloud: Cloud, aws: FaultyAws, call: str, fault: Fault) -> None:
    job = new_job(content("sdwebui", 1))
    with proxied("sdwebui") as proxy, fast_world(5) as clock:
        settings = cloud.settings(engine="sdwebui", runtime_url=proxy.url, visibility_timeout_seconds=6, max_starts=1)
        aws.fail(call, fault, times=1)
        with at_work(settings, aws.clients, clock):
            submit(cloud, job)
            assert_ended_once(cloud, {job.job_id: 1})
    result = result_of(cloud, job.job_id)
    assert result is not None
    assert result.starts == 1


@pytest.mark.slow
@pytest.mark.parametrize("service", ["s3", "sns", "sqs", "s3|sns|sqs"])
def test_a_job_in_an_outage_of_a_real_minute_is_told_after_it_and_not_run_again(
    cloud: Cloud, aws: FaultyAws, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pauses are shorter than an agent's, but not so short that the message is received too often."""
    monkeypatch.setattr("darkroom_agent.endings._LONGEST_PAUSE_SECONDS", 10)
    with proxied("sdwebui", seconds_per_step=0.1) as proxy:
        settings = cloud.settings(engine="sdwebui", runtime_url=proxy.url, visibility_timeout_seconds=30)
        with at_work(settings, aws.clients):
            with held(proxy.tempo):
                jobs = {cloud.send(message("sdwebui", 1, steps=20)): 1}
                eventually(lambda: proxy.gpu.begun)
                aws.fail(service, Fault.UNREACHABLE)
            jobs[cloud.send(message("sdwebui", 2))] = 2
            threading.Event().wait(60)
            aws.mend()
            assert_ended_once(cloud, jobs)
    assert proxy.gpu.begun == [1, 2]
