"""The traces of jobs: where they come from, what they hold, and where they go."""

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from darkroom_agent.clock import Clock
from darkroom_agent.tracing import JobTrace, Tracing
from darkroom_contract.errors import JobError, JobErrorCode
from tests.unit.agent.support import ToldClock

DEADLINE = 30
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
XRAY = "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1"
PROMPT = "nobody may read this prompt"
BODY = json.dumps({"content": {"prompt": PROMPT}})


class Spans:
    """What a tracing recorded."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.clock = ToldClock()
        self.tracing = Tracing("sdxl", self.clock, provider)

    def all(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def spans() -> Spans:
    return Spans()


def text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def start(
    tracing: Tracing,
    *,
    body: str = BODY,
    attributes: dict[str, dict[str, str]] | None = None,
    trace_header: str | None = None,
) -> JobTrace:
    return tracing.start("message-1", body, attributes or {}, trace_header)


def parent(span: ReadableSpan) -> tuple[str, str] | None:
    """The trace and the span that a span is a part of."""
    return (format_trace_id(span.parent.trace_id), format_span_id(span.parent.span_id)) if span.parent else None


def test_a_job_is_a_span_that_consumes_a_message(spans: Spans) -> None:
    trace = start(spans.tracing)
    trace.of_job("studio", "job-1")
    trace.end("completed")
    span = spans.all()["job"]
    assert span.kind is SpanKind.CONSUMER
    assert dict(span.attributes or {}) == {
        "messaging.system": "aws_sqs",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": "message-1",
        "darkroom.runtime": "sdxl",
        "darkroom.tenant": "studio",
        "darkroom.job_id": "job-1",
        "darkroom.outcome": "completed",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert parent(span) is None


def test_a_raw_message_continues_its_traceparent(spans: Spans) -> None:
    start(spans.tracing, attributes={"traceparent": text(TRACEPARENT)}, trace_header=XRAY).end("completed")
    assert parent(spans.all()["job"]) == (TRACE, PARENT)


def test_a_message_in_snss_envelope_continues_its_traceparent(spans: Spans) -> None:
    attributes = {"traceparent": {"Type": "String", "Value": TRACEPARENT}}
    body = json.dumps({"Type": "Notification", "Message": BODY, "MessageAttributes": attributes})
    start(spans.tracing, body=body, trace_header=XRAY).end("completed")
    assert parent(spans.all()["job"]) == (TRACE, PARENT)


def test_without_a_traceparent_the_trace_of_xray_goes_on(spans: Spans) -> None:
    attributes = {"traceparent": text("nonsense")}
    start(spans.tracing, attributes=attributes, trace_header=XRAY).end("completed")
    assert parent(spans.all()["job"]) == ("67891233abcdef012345678912345678", "463ac35c9f6413ad")


def test_the_tracestate_goes_on(spans: Spans) -> None:
    attributes = {"traceparent": text(TRACEPARENT), "tracestate": text("vendor=1")}
    trace = start(spans.tracing, attributes=attributes)
    assert trace.inject()["tracestate"] == "vendor=1"


@given(
    traceparent=st.text() | st.just(TRACEPARENT),
    tracestate=st.text(),
    header=st.none() | st.text() | st.sampled_from([XRAY, XRAY[:-1], "Root=;", "Root=1-z-z"]),
    body=st.text() | st.sampled_from(['{"MessageAttributes": "traceparent"}', '["MessageAttributes", "traceparent"]']),
)
def test_whatever_a_message_says_of_its_trace_it_has_one(
    traceparent: str, tracestate: str, header: str | None, body: str
) -> None:
    attributes = {"traceparent": text(traceparent), "tracestate": text(tracestate)}
    trace = start(Spans().tracing, body=body, attributes=attributes, trace_header=header)
    assert len(trace.ids["trace_id"]) == 32


def test_stages_are_parts_of_the_job_whichever_thread_they_are_in(spans: Spans) -> None:
    trace = start(spans.tracing)

    def stage(name: str) -> None:
        with trace.stage(name):
            pass

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(stage, ["claim", "fetch", "generate", "save"]))
    trace.end("completed")
    job, *stages = (spans.all()[name] for name in ("job", "claim", "fetch", "generate", "save"))
    assert job.context is not None
    expected = (format_trace_id(job.context.trace_id), format_span_id(job.context.span_id))
    assert {parent(stage) for stage in stages} == {expected}
    for stage_span in stages:
        assert (job.start_time or 0) <= (stage_span.start_time or 0) <= (stage_span.end_time or 0)


def test_a_stage_that_is_over_has_the_times_that_it_had(spans: Spans) -> None:
    trace = start(spans.tracing)
    trace.add_stage("generate", spans.clock.time - 30, spans.clock.time - 10)
    trace.end("completed")
    generate, job = spans.all()["generate"], spans.all()["job"]
    assert generate.start_time
    assert generate.end_time
    assert job.start_time
    assert (generate.end_time - generate.start_time) / 1e9 == pytest.approx(20, abs=1)
    assert (job.start_time - generate.end_time) / 1e9 == pytest.approx(10, abs=1)


def test_of_an_error_a_span_has_the_code_and_not_the_words(spans: Spans) -> None:
    trace = start(spans.tracing)
    with pytest.raises(ValueError, match=PROMPT), trace.stage("generate"):
        raise ValueError(PROMPT)
    trace.end("failed", JobError(code=JobErrorCode.ENGINE_REFUSED, message=PROMPT))
    generate, job = spans.all()["generate"], spans.all()["job"]
    assert (generate.attributes or {})["error.type"] == "ValueError"
    assert (job.attributes or {})["error.type"] == "engine_refused"
    assert generate.status.status_code is job.status.status_code is StatusCode.ERROR
    assert PROMPT not in generate.to_json() + job.to_json()


def test_only_the_first_end_counts(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    trace = start(spans.tracing)
    trace.end("completed")
    trace.end("retried")
    assert (spans.all()["job"].attributes or {})["darkroom.outcome"] == "completed"
    assert not caplog.records


def test_the_notification_continues_the_jobs_span(spans: Spans) -> None:
    trace = start(spans.tracing, attributes={"traceparent": text(TRACEPARENT)})
    trace.end("completed")
    context = spans.all()["job"].context
    assert context is not None
    assert trace.inject() == {"traceparent": f"00-{TRACE}-{format_span_id(context.span_id)}-01"}
    assert trace.ids == {"trace_id": TRACE}


def test_a_trace_that_nobody_records_is_handed_on_and_not_recorded(spans: Spans) -> None:
    unsampled = TRACEPARENT[:-1] + "0"
    trace = start(spans.tracing, attributes={"traceparent": text(unsampled)})
    with trace.stage("generate"):
        pass
    trace.end("completed")
    assert spans.all() == {}
    assert trace.inject()["traceparent"].endswith("-00")
    assert trace.ids == {"trace_id": TRACE}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment without OpenTelemetry's variables."""
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name in ("SDK_DISABLED", "TRACES_EXPORTER", "SERVICE_NAME", "RESOURCE_ATTRIBUTES", "TRACES_SAMPLER"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_BSP_SCHEDULE_DELAY": "-1", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_when_tracing_is_off_a_trace_is_handed_on_as_it_came(
    environment: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    threads = threading.active_count()
    tracing = Tracing.from_environment("sdxl", Clock())
    trace = start(tracing, attributes={"traceparent": text(TRACEPARENT)})
    with trace.stage("generate"):
        pass
    trace.add_stage("wait", 0, 1)
    trace.end("completed")
    assert trace.inject() == {"traceparent": TRACEPARENT}
    assert threading.active_count() == threads
    tracing.shutdown(DEADLINE)


def test_when_tracing_is_off_a_message_without_a_trace_has_none(environment: pytest.MonkeyPatch) -> None:
    trace = start(Tracing.from_environment("sdxl", Clock()))
    assert trace.ids == {}
    assert trace.inject() == {}


def test_a_wrong_variable_is_said(environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    environment.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    Tracing.from_environment("sdxl", Clock())
    assert "OTEL_TRACES_EXPORTER" in caplog.text


class Collector:
    """An OTLP collector over HTTP; ``gate`` lets it answer."""

    def __init__(self) -> None:
        self.requests: Queue[tuple[str, ExportTraceServiceRequest]] = Queue()
        self.gate = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.put((self.path, ExportTraceServiceRequest.FromString(body)))
                collector.gate.wait(DEADLINE)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.stop()


def attributes_of(attributes: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in attributes}


@pytest.mark.parametrize(("variables", "service"), [({}, "darkroom-agent"), ({"OTEL_SERVICE_NAME": "mine"}, "mine")])
def test_spans_are_exported_before_the_agent_ends(
    environment: pytest.MonkeyPatch, collector: Collector, variables: dict[str, str], service: str
) -> None:
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **variables}.items():
        environment.setenv(name, value)
    collector.gate.set()
    tracing = Tracing.from_environment("sdxl", Clock())
    trace = start(tracing, attributes={"traceparent": text(TRACEPARENT)})
    with trace.stage("generate"):
        pass
    trace.end("completed")
    tracing.shutdown(DEADLINE)
    path, request = collector.requests.get_nowait()
    assert path == "/v1/traces"
    [resource] = request.resource_spans
    described = attributes_of(resource.resource.attributes)
    assert (described["service.name"], described["darkroom.runtime"]) == (service, "sdxl")
    exported = {span.name: span for span in resource.scope_spans[0].spans}
    assert exported.keys() == {"job", "generate"}
    assert exported["job"].trace_id.hex() == exported["generate"].trace_id.hex() == TRACE
    assert exported["job"].parent_span_id.hex() == PARENT
    assert attributes_of(exported["job"].attributes)["darkroom.outcome"] == "completed"


def test_a_collector_that_does_not_answer_holds_the_end_up_no_longer_than_said(
    environment: pytest.MonkeyPatch, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracing = Tracing.from_environment("sdxl", Clock())
    start(tracing).end("completed")
    with caplog.at_level(logging.WARNING, "darkroom_agent"):
        tracing.shutdown(0.2)
    assert not collector.gate.is_set()
    assert "traces not exported in time" in caplog.text
