"""The agent, put together."""

from concurrent.futures import Future
from logging import getLogger

from darkroom_agent.aws import Clients
from darkroom_agent.delivery import Delivery
from darkroom_agent.engines import engine_of
from darkroom_agent.engines.watch import EngineWatch
from darkroom_agent.fetcher import Fetcher
from darkroom_agent.health import serving_health
from darkroom_agent.inputs import Inputs
from darkroom_agent.lifecycle import Lifecycle
from darkroom_agent.policy import Policy
from darkroom_agent.records import NoRecords, Records, StoredRecords
from darkroom_agent.settings import Settings
from darkroom_agent.transport import RuntimeQueue
from darkroom_agent.worker import Worker
from darkroom_contract.store import JobStore

log = getLogger(__name__)

#: The longest that the loop may be silent: a call to AWS, with its repeats, or the fetch of an input.
_SILENCE_SECONDS = 300


class Agent:
    """One agent beside one runtime. ``run`` returns after ``stop``, which another thread calls."""

    def __init__(self, settings: Settings, *, aws: Clients | None = None, fetcher: Fetcher | None = None) -> None:
        brief = aws or Clients.create_brief()
        aws = aws or Clients.create()
        self._settings = settings
        self._lifecycle = Lifecycle(settings.shutdown_budget_seconds)
        records: Records = NoRecords()
        if settings.jobs_bucket:
            store = JobStore(brief.s3, settings.jobs_bucket)
            records = StoredRecords(store, settings.pod_name, settings.visibility_timeout_seconds)
        engine = engine_of(settings)
        self._watch = EngineWatch(engine)
        policy = Policy(
            settings=settings,
            engine=engine,
            watch=self._watch,
            inputs=Inputs(fetcher or Fetcher(), aws.s3, settings),
            records=records,
            delivery=Delivery(aws, settings),
            lifecycle=self._lifecycle,
        )
        queue = RuntimeQueue(aws.sqs, brief.sqs, settings)
        self._worker = Worker(queue, self._watch, policy, self._lifecycle)
        #: The port of the health server, once it listens.
        self.health_port: Future[int] = Future()

    def run(self) -> None:
        """Work until ``stop`` is called."""
        checks = {
            "/livez": self._is_alive,
            "/livez/engine": lambda: self._watch.is_trusted,
            "/readyz": lambda: self._watch.is_ready,
        }
        with serving_health(self._settings.health_port, checks) as port:
            self.health_port.set_result(port)
            self._worker.run()
        log.info("agent stopped")

    def stop(self) -> None:
        """Receive no more; finish the running job if it ends within the shutdown budget, or else give it back."""
        self._lifecycle.stop()

    def _is_alive(self) -> bool:
        return self._lifecycle.seconds_since_beat < _SILENCE_SECONDS
