"""The agent, put together."""

from concurrent.futures import Future
from contextlib import closing
from logging import getLogger

from darkroom_agent.aws import Clients
from darkroom_agent.clock import Clock
from darkroom_agent.conclusions import Conclusions
from darkroom_agent.delivery import Delivery
from darkroom_agent.engines import engine_of
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.fetcher import Fetcher
from darkroom_agent.flow import Flow
from darkroom_agent.health import serving_health
from darkroom_agent.inputs import Inputs
from darkroom_agent.lifecycle import Lifecycle
from darkroom_agent.metrics import Metrics
from darkroom_agent.policy import Policy
from darkroom_agent.records import NoRecords, Records, StoredRecords
from darkroom_agent.settings import Settings
from darkroom_agent.tracing import Tracing
from darkroom_agent.transport import RuntimeQueue
from darkroom_agent.worker import Worker
from darkroom_contract.store import JobStore

log = getLogger(__name__)

#: The longest that the loop may be silent: a receive with its repeats.
_SILENCE_SECONDS = 120
#: The settings that whoever reads the log wants to know.
_TOLD = ("engine", "runtime_url", "queue_url", "output_bucket", "jobs_bucket", "result_topic_arn", "max_starts")
#: How long the last traces may take to be exported.
_TRACES_SECONDS = 5.0


class Agent:
    """One agent beside one runtime. ``run`` returns after ``stop``, which another thread calls."""

    def __init__(
        self,
        settings: Settings,
        *,
        aws: Clients | None = None,
        fetcher: Fetcher | None = None,
        clock: Clock | None = None,
    ) -> None:
        aws = aws or Clients.create()
        self._settings = settings
        self._lifecycle = Lifecycle(settings.shutdown_budget_seconds, clock or Clock())
        self._metrics = Metrics(settings.runtime_name)
        self._tracing = Tracing.from_environment(settings.runtime_name, self._lifecycle.clock)
        for client in set(aws):
            self._metrics.watch_aws(client)
        records: Records = NoRecords()
        if settings.jobs_bucket:
            store = JobStore(aws.brief_s3, settings.jobs_bucket)
            records = StoredRecords(
                store, settings.pod_name, settings.visibility_timeout_seconds, self._lifecycle.clock
            )
        engine = engine_of(settings)
        self._watch = EngineWatch(engine, settings, self._lifecycle.clock)
        self._delivery = Delivery(aws, settings)
        conclusions = Conclusions(settings, engine, records, self._delivery, self._metrics)
        policy = Policy(
            settings=settings,
            engine=engine,
            watch=self._watch,
            inputs=Inputs(fetcher or Fetcher(hosts=settings.input_hosts), aws.s3, settings),
            records=records,
            conclusions=conclusions,
            lifecycle=self._lifecycle,
            tracing=self._tracing,
        )
        queue = RuntimeQueue(aws.sqs, aws.brief_sqs, aws.heartbeat_sqs, settings, self._lifecycle.clock, self._metrics)
        flow = Flow(engine, self._lifecycle.clock)
        self._worker = Worker(queue, flow, self._watch, policy, conclusions, self._lifecycle, self._metrics)
        self._metrics.messages_in_flight.set_function(lambda: len(flow.messages))
        self._metrics.messages_prefetched.set_function(lambda: flow.prefetched)
        self._metrics.bytes_in_delivery.set_function(lambda: flow.bytes_in_delivery)
        self._metrics.engine_ready.set_function(self._is_ready)
        #: The port of the health server, once it listens.
        self.health_port: Future[int] = Future()

    def run(self) -> None:
        """Work until ``stop`` is called."""
        checks = {
            "/healthz": self._is_alive,
            "/livez/engine": lambda: not self._watch.needs_restart,
            "/readyz": self._is_ready,
        }
        pages = {"/metrics": self._metrics.exposition}
        log.info("agent starts", extra={name: getattr(self._settings, name) for name in _TOLD})
        with closing(self._delivery), serving_health(self._settings.health_port, checks, pages) as port:
            self.health_port.set_result(port)
            self._worker.run()
            self._tracing.shutdown(_TRACES_SECONDS)
        log.info("agent stopped")

    def stop(self) -> None:
        """Receive no more; finish the running job if it ends within the shutdown budget, or else give it back."""
        self._lifecycle.stop()

    def _is_ready(self) -> bool:
        return self._watch.is_ready and self._worker.is_receiving and not self._lifecycle.is_stopping

    def _is_alive(self) -> bool:
        # A warm-up may take as long as a job.
        return self._lifecycle.seconds_since_beat < _SILENCE_SECONDS + self._settings.job_timeout_seconds
