"""What the metrics of an agent say."""

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from prometheus_client.parser import text_string_to_metric_families

from darkroom_agent.metrics import Metrics

_ONCE = Config(retries={"total_max_attempts": 1})
_SESSION = boto3.Session("test", "test", region_name="us-east-1")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("sdxl")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample as Prometheus reads it; None when there is no such series."""
    text = metrics.exposition()[0].decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def test_messages_are_counted_by_what_became_of_them(metrics: Metrics) -> None:
    metrics.ended("completed")
    metrics.ended("completed")
    metrics.ended("dead_lettered")
    assert value(metrics, "darkroom_jobs_total", runtime="sdxl", outcome="completed") == 2
    assert value(metrics, "darkroom_jobs_total", runtime="sdxl", outcome="dead_lettered") == 1


def test_an_outcome_that_has_not_come_is_zero_and_not_absent(metrics: Metrics) -> None:
    assert value(metrics, "darkroom_jobs_total", runtime="sdxl", outcome="handed_back") == 0
    assert value(metrics, "darkroom_visibility_extensions_total", runtime="sdxl", result="failed") == 0


def test_stages_fall_into_buckets(metrics: Metrics) -> None:
    metrics.stage("generate", 4)
    metrics.stage("generate", 1900)
    bucket = "darkroom_job_stage_seconds_bucket"
    assert value(metrics, bucket, runtime="sdxl", stage="generate", le="2.5") == 0
    assert value(metrics, bucket, runtime="sdxl", stage="generate", le="5.0") == 1
    assert value(metrics, bucket, runtime="sdxl", stage="generate", le="1800.0") == 1
    assert value(metrics, "darkroom_job_stage_seconds_sum", runtime="sdxl", stage="generate") == 1904


def gaps(metrics: Metrics) -> tuple[float | None, float | None]:
    """How many gaps there were, and their sum."""
    name = "darkroom_gpu_gap_seconds"
    return value(metrics, f"{name}_count", runtime="sdxl"), value(metrics, f"{name}_sum", runtime="sdxl")


def busy(metrics: Metrics) -> float | None:
    return value(metrics, "darkroom_gpu_busy_seconds_total", runtime="sdxl")


def test_the_first_run_has_no_gap_before_it(metrics: Metrics) -> None:
    metrics.generated(received_at=1, begun_at=2, ended_at=5)
    assert gaps(metrics) == (0, 0)
    assert busy(metrics) == 3


def test_a_gap_lasts_from_the_end_of_a_run_to_the_begin_of_the_next(metrics: Metrics) -> None:
    metrics.generated(received_at=1, begun_at=2, ended_at=5)
    metrics.generated(received_at=3, begun_at=5.5, ended_at=9)
    assert gaps(metrics) == (1, 0.5)
    assert busy(metrics) == 6.5


def test_the_time_without_a_message_is_no_gap(metrics: Metrics) -> None:
    metrics.generated(received_at=1, begun_at=2, ended_at=5)
    metrics.generated(received_at=100, begun_at=100.25, ended_at=101)
    assert gaps(metrics) == (1, 0.25)


def test_runs_that_seem_to_overlap_keep_the_gpu_busy_once(metrics: Metrics) -> None:
    metrics.generated(received_at=1, begun_at=2, ended_at=5)
    metrics.generated(received_at=1, begun_at=4.5, ended_at=9)
    assert gaps(metrics) == (1, 0)
    assert busy(metrics) == 7


def test_extensions_are_counted_by_result(metrics: Metrics) -> None:
    metrics.extended(ok=True)
    metrics.extended(ok=False)
    metrics.extended(ok=False)
    assert value(metrics, "darkroom_visibility_extensions_total", runtime="sdxl", result="succeeded") == 1
    assert value(metrics, "darkroom_visibility_extensions_total", runtime="sdxl", result="failed") == 2


def test_gauges_say_what_is_the_case_when_they_are_asked(metrics: Metrics) -> None:
    held: list[str] = []
    metrics.messages_in_flight.set_function(lambda: len(held))
    assert value(metrics, "darkroom_messages_in_flight", runtime="sdxl") == 0
    held += ["one", "two"]
    assert value(metrics, "darkroom_messages_in_flight", runtime="sdxl") == 2
    metrics.engine_ready.set(True)
    assert value(metrics, "darkroom_engine_ready", runtime="sdxl") == 1
    metrics.bytes_in_delivery.inc(1000)
    metrics.bytes_in_delivery.dec(400)
    assert value(metrics, "darkroom_bytes_in_delivery", runtime="sdxl") == 600
    assert value(metrics, "darkroom_messages_prefetched", runtime="sdxl") == 0


def test_two_agents_in_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics("sdxl")
    other.ended("completed")
    assert value(metrics, "darkroom_jobs_total", runtime="sdxl", outcome="completed") == 0


def test_the_process_is_described_too(metrics: Metrics) -> None:
    assert value(metrics, "process_resident_memory_bytes")
    text = metrics.exposition()[0].decode()
    assert "python_info{" in text
    assert "python_gc_collections_total{" in text


def test_open_metrics_is_for_those_who_ask_for_it(metrics: Metrics) -> None:
    plain, plain_type = metrics.exposition("text/html")
    assert plain_type.startswith("text/plain; version=0.0.4")
    assert not plain.endswith(b"# EOF\n")
    prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    content, content_type = metrics.exposition(prometheus)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert content.endswith(b"# EOF\n")


def failures(metrics: Metrics, service: str) -> float | None:
    return value(metrics, "darkroom_aws_call_failures_total", runtime="sdxl", service=service)


def test_refused_aws_calls_are_counted_and_answers_are_not(metrics: Metrics, aws_endpoint: str) -> None:
    s3 = _SESSION.client("s3", endpoint_url=aws_endpoint, config=_ONCE)
    sqs = _SESSION.client("sqs", endpoint_url=aws_endpoint, config=_ONCE)
    metrics.watch_aws(s3)
    metrics.watch_aws(sqs)
    s3.create_bucket(Bucket="jobs")
    s3.put_object(Bucket="jobs", Key="result.json", Body=b"")
    with pytest.raises(ClientError):
        s3.put_object(Bucket="jobs", Key="result.json", Body=b"", IfNoneMatch="*")
    with pytest.raises(ClientError):
        s3.get_object(Bucket="jobs", Key="state.json")
    assert failures(metrics, "s3") == 0
    with pytest.raises(ClientError):
        sqs.receive_message(QueueUrl=f"{aws_endpoint}/123456789012/none")
    assert failures(metrics, "sqs") == 1


def test_aws_calls_without_an_answer_are_counted(metrics: Metrics) -> None:
    s3 = _SESSION.client("s3", endpoint_url="http://127.0.0.1:1", config=_ONCE)
    metrics.watch_aws(s3)
    with pytest.raises(EndpointConnectionError):
        s3.list_buckets()
    assert failures(metrics, "s3") == 1
