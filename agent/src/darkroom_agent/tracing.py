"""Traces of jobs, continued from the client or the Lambda through SNS and SQS. It talks to an OTLP collector only.

The environment decides, by OpenTelemetry's own variables: there is an exporter (OTLP over HTTP) if
``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_TRACES_EXPORTER=otlp`` says so. Without one nothing is recorded, and the trace
that came with a message is handed on as it is. Whether a trace that somebody else began is recorded is theirs to say,
unless ``OTEL_TRACES_SAMPLER`` says otherwise.

No prompt, content or URL goes into a span.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import getLogger
from typing import TYPE_CHECKING, Self

from opentelemetry.context import Context
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.propagators.aws.aws_xray_propagator import TRACE_HEADER_KEY
from opentelemetry.trace import (
    NoOpTracer,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pydantic_core import from_json

from darkroom_agent.clock import Clock
from darkroom_contract.errors import JobError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = getLogger(__name__)

_W3C = TraceContextTextMapPropagator()
_XRAY = AwsXRayPropagator()
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")


class JobTrace:
    """The trace of one message's job: a span for the whole and one for each stage. Any thread may call it."""

    def __init__(self, tracer: Tracer, span: Span, clock: Clock) -> None:
        self._tracer = tracer
        self._span = span
        self._inside = set_span_in_context(span, Context())
        self._clock = clock

    @property
    def ids(self) -> dict[str, str]:
        """For logs: ``trace_id``, if there is one."""
        context = self._span.get_span_context()
        return {"trace_id": format_trace_id(context.trace_id)} if context.is_valid else {}

    def of_job(self, tenant: str, job_id: str) -> None:
        """Note whose job it is, once that is known."""
        self._span.set_attributes({"darkroom.tenant": tenant, "darkroom.job_id": job_id})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record the time inside the context as a stage."""
        span = self._tracer.start_span(name, self._inside)
        try:
            yield
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()

    def add_stage(self, name: str, begun_at: float, ended_at: float) -> None:
        """Record a stage that is over, by its times on the agent's clock."""
        span = self._tracer.start_span(name, self._inside, start_time=self._wall_clock(begun_at))
        span.end(self._wall_clock(ended_at))

    def end(self, outcome: str, error: JobError | None = None) -> None:
        """Say what became of the message; of an error its code alone. Only the first call counts."""
        if self._span.is_recording():
            self._span.set_attribute("darkroom.outcome", outcome)
            if error is not None:
                _fail(self._span, error.code)
            self._span.end()

    def inject(self) -> dict[str, str]:
        """The message attributes that continue the trace: ``traceparent``, and ``tracestate`` if there is one."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, self._inside)
        return carrier

    def _wall_clock(self, at: float) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns() - round((self._clock.now() - at) * 1e9)


class Tracing:
    """Begins the traces of an agent's jobs."""

    def __init__(self, runtime: str, clock: Clock, provider: TracerProvider | None = None) -> None:
        """Without a provider nothing is recorded."""
        self._runtime = runtime
        self._clock = clock
        self._provider = provider
        self._tracer = provider.get_tracer(__name__) if provider else NoOpTracer()

    @classmethod
    def from_environment(cls, runtime: str, clock: Clock) -> Self:
        """Tracing as OpenTelemetry's variables have it. What they ask for and is not to be had is logged, and left."""
        try:
            return cls(runtime, clock, _provider(runtime) if _is_wanted() else None)
        except ValueError as error:
            log.warning("tracing is off: a variable of OpenTelemetry's is wrong", extra={"reason": str(error)})
            return cls(runtime, clock)

    def start(
        self,
        message_id: str,
        body: str,
        attributes: Mapping[str, Mapping[str, object]],
        trace_header: str | None,
    ) -> JobTrace:
        """Begin the trace of a received message, as a part of the trace that it came with.

        That is said by the W3C's ``traceparent`` in the message attributes, or in those of SNS's envelope, or else by
        SQS's ``AWSTraceHeader``.
        """
        span = self._tracer.start_span(
            "job",
            _parent(body, attributes, trace_header),
            SpanKind.CONSUMER,
            {
                "messaging.system": "aws_sqs",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.message.id": message_id,
                "darkroom.runtime": self._runtime,
            },
        )
        return JobTrace(self._tracer, span, self._clock)

    def shutdown(self, seconds: float) -> None:
        """Export what is left, but take no longer than so."""
        if self._provider is None:
            return
        # The SDK's own limit is half a minute, and its flush has none.
        done, provider = threading.Event(), self._provider

        def shut_down() -> None:
            provider.shutdown()
            done.set()

        threading.Thread(target=shut_down, name="tracing-shutdown", daemon=True).start()
        if not self._clock.wait(done, seconds):
            log.warning("traces not exported in time")


def _parent(body: str, attributes: Mapping[str, Mapping[str, object]], trace_header: str | None) -> Context:
    """The span that a message came from, as a context; an empty one where nothing says so."""
    carrier = _texts(attributes, "StringValue") or _texts(_envelope_attributes(body), "Value")
    context = _W3C.extract(carrier, Context())
    if trace_header and not get_current_span(context).get_span_context().is_valid:
        return _XRAY.extract({TRACE_HEADER_KEY: trace_header}, Context())
    return context


def _texts(attributes: Mapping[str, Mapping[str, object]], key: str) -> dict[str, str]:
    """What attributes say of the trace."""
    texts = ((name, attributes.get(name, {}).get(key)) for name in _W3C.fields)
    return {name: text for name, text in texts if isinstance(text, str)}


def _envelope_attributes(body: str) -> dict[str, dict[str, object]]:
    """The message attributes in SNS's envelope; none where the body is none, or none of SNS's."""
    if '"MessageAttributes"' not in body or "traceparent" not in body:
        return {}
    try:
        attributes = from_json(body)["MessageAttributes"]
        return {name: dict(attribute) for name, attribute in attributes.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _fail(span: Span, kind: str) -> None:
    """Mark a span as failed. An error's text may quote a job's content."""
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", kind)


def _is_wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if any(map(os.environ.get, _ENDPOINTS)) else "none")
    protocols = {os.environ.get(name) or "http/protobuf" for name in _PROTOCOLS}
    if exporter == "none":
        return False
    if exporter != "otlp" or protocols != {"http/protobuf"}:
        log.warning("tracing is off: of OTEL_TRACES_EXPORTER otlp alone is known, and of its protocols http/protobuf")
        return False
    return True


def _provider(runtime: str) -> TracerProvider:
    # The SDK takes memory and a tenth of a second to import, for nothing where tracing is off.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    own = {"service.name": "darkroom-agent", "darkroom.runtime": runtime}
    resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
