"""What Prometheus is told of an agent: how jobs end, what stages take, how busy the engine is. Touches nothing."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from darkroom_contract.v1 import JobStatus

if TYPE_CHECKING:
    from botocore.client import BaseClient

#: What became of a received message.
Outcome: TypeAlias = Literal["completed", "failed", "cancelled", "handed_back", "retried", "dead_lettered", "duplicate"]

_NAMESPACE = "darkroom"
#: In seconds, to the longest job that is usual.
_STAGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
_GAP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Statuses that answer a question: nothing is there, or a conditional write came second.
_ANSWERS = frozenset({404, 409, 412})


class Metrics:
    """The metrics of one agent, in a registry of their own, each with the label ``runtime``.

    Any thread may call it. All times are in seconds.
    """

    def __init__(self, runtime: str) -> None:
        self._registry = registry = CollectorRegistry()
        self._runtime = runtime
        self._lock = threading.Lock()
        self._last_end = math.inf
        counter = partial(Counter, namespace=_NAMESPACE, registry=registry)
        gauge = partial(Gauge, namespace=_NAMESPACE, registry=registry)
        histogram = partial(Histogram, namespace=_NAMESPACE, registry=registry)
        self._jobs = counter("jobs", "Messages, by what became of them", ["runtime", "outcome"])
        self._stages = histogram(
            "job_stage_seconds", "What the stages of jobs took", ["runtime", "stage"], buckets=_STAGE_BUCKETS
        )
        self._extensions = counter(
            "visibility_extensions", "Extensions of messages' visibility timeouts", ["runtime", "result"]
        )
        self._aws_failures = counter(
            "aws_call_failures", "AWS calls that failed, after the SDK's repeats", ["runtime", "service"]
        )
        self._busy = counter("gpu_busy_seconds", "Time in which the engine had a begun run", ["runtime"]).labels(
            runtime
        )
        self._gaps = histogram(
            "gpu_gap_seconds",
            "Time from the end of a run to the begin of the next, while a message was there",
            ["runtime"],
            buckets=_GAP_BUCKETS,
        ).labels(runtime)
        #: Gauges: set them, or let ``set_function`` say what to ask.
        self.messages_in_flight = gauge("messages_in_flight", "Messages that the agent holds", ["runtime"]).labels(
            runtime
        )
        self.messages_prefetched = gauge(
            "messages_prefetched", "Held messages whose job the engine has not begun", ["runtime"]
        ).labels(runtime)
        self.bytes_in_delivery = gauge(
            "bytes_in_delivery", "Bytes of pictures that are not saved yet", ["runtime"]
        ).labels(runtime)
        self.engine_ready = gauge("engine_ready", "Whether the engine takes jobs", ["runtime"]).labels(runtime)
        # A series that begins with its first event hides that event from rate().
        for outcome in get_args(Outcome):
            self._jobs.labels(runtime, outcome)
        for result in ("succeeded", "failed"):
            self._extensions.labels(runtime, result)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def ended(self, outcome: Outcome | JobStatus) -> None:
        """Count a message by what became of it; by the status of its job, where that ended with it."""
        self._jobs.labels(self._runtime, outcome).inc()

    def stage(self, name: str, seconds: float) -> None:
        """Note what a stage of a job took: wait, fetch, generate, upload, or total, which is the whole of it."""
        self._stages.labels(self._runtime, name).observe(seconds)

    def generated(self, received_at: float, begun_at: float, ended_at: float) -> None:
        """Note a run of the engine's: when its message was received, and when it began and ended, by one clock.

        The gap before it counts from the end of the run before, or from the receive if there was nothing to do until
        then. Runs are told in the order in which they end.
        """
        with self._lock:
            last_end = self._last_end
            self._last_end = ended_at
        if last_end <= ended_at:  # not so for the first run
            self._gaps.observe(max(0.0, begun_at - max(last_end, received_at)))
            begun_at = max(begun_at, last_end)
        self._busy.inc(max(0.0, ended_at - begun_at))

    def extended(self, *, ok: bool) -> None:
        """Count an extension of a message's visibility timeout."""
        self._extensions.labels(self._runtime, "succeeded" if ok else "failed").inc()

    def watch_aws(self, client: BaseClient) -> None:
        """Count the calls of a client's that fail: those without an answer, and those that AWS refuses."""
        failures = self._aws_failures.labels(self._runtime, client.meta.service_model.service_name)

        def on_answer(http_response: Any, **_event: Any) -> None:
            if http_response.status_code >= 400 and http_response.status_code not in _ANSWERS:
                failures.inc()

        def on_error(**_event: Any) -> None:
            failures.inc()

        client.meta.events.register("after-call", on_answer)
        client.meta.events.register("after-call-error", on_error)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics as text and its content type: OpenMetrics if the Accept header asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
