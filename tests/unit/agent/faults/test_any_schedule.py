"""Whatever goes wrong: every job ends once, with its own picture, and the GPU repeats as little as can be.

A schedule is drawn of jobs, pauses and faults. Two pods work on it, each an agent and its engine; one that vanishes or
is stopped has a successor. At the end all faults are over, and the queue has to become empty.
"""

import json
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from darkroom_agent.agent import Agent
from darkroom_agent.clock import Clock
from darkroom_contract.v1 import JobStatus
from tests.unit.agent.conftest import new_cloud
from tests.unit.agent.faults import aws_faults, http_proxy
from tests.unit.agent.faults.agents import Told, assert_picture, assert_told_as_recorded, everything_told, result_of
from tests.unit.agent.faults.aws_faults import FaultyAws
from tests.unit.agent.faults.clocks import fast_world
from tests.unit.agent.faults.engine_proxy import EngineProxy
from tests.unit.agent.faults.gpu import content, message, task_of
from tests.unit.agent.support import DEADLINE, Cloud
from tests.unit.agent.test_messages import message_of, new_job, submit

EXAMPLES = 4
EXAMPLES_OF_THE_SLOW_SUITE = 150
MAX_STARTS = 3
#: By the fast clock.
SPEED = 2
VISIBILITY = 6
CUTS = (http_proxy.Fault.CUT_AT_ONCE, http_proxy.Fault.CUT_BEFORE_ANSWER, http_proxy.Fault.CUT_MID_ANSWER)
CALLS = (
    "s3",
    "s3.PutObject",
    "s3.PutObject .*state.json",
    "s3.PutObject .*result.json",
    "s3.PutObject .*png",
    "s3.GetObject",
    "sns",
    "sqs",
    "sqs.ReceiveMessage",
    "sqs.ChangeMessageVisibility",
    "sqs.DeleteMessage",
)


@dataclass(frozen=True)
class Send:
    """A job through the API, or straight to the topic; its message may come twice."""

    way: Literal["api", "topic"]
    copies: int
    steps: int


@dataclass(frozen=True)
class Poison:
    """A message that is no job."""


@dataclass(frozen=True)
class Pause:
    """Time for things to happen."""

    seconds: float


@dataclass(frozen=True)
class AwsFails:
    """A pod's next calls fail."""

    pod: int
    what: str
    fault: aws_faults.Fault
    times: int


@dataclass(frozen=True)
class EngineFails:
    """A pod's engine fails the next jobs that it is sent."""

    pod: int
    fault: http_proxy.Fault
    times: int


@dataclass(frozen=True)
class EngineRestarts:
    """A pod's engine crashes, and comes back."""

    pod: int


@dataclass(frozen=True)
class PodVanishes:
    """A pod is gone without a word; another comes."""

    pod: int


@dataclass(frozen=True)
class PodStops:
    """A pod is told to stop; another comes when it has."""

    pod: int
    budget: float


Step: TypeAlias = Send | Poison | Pause | AwsFails | EngineFails | EngineRestarts | PodVanishes | PodStops

PODS = st.integers(0, 1)
SENDS = st.builds(Send, way=st.sampled_from(["api", "topic"]), copies=st.integers(1, 2), steps=st.integers(2, 12))
FAULTS = st.one_of(
    st.builds(
        AwsFails,
        pod=PODS,
        what=st.sampled_from(CALLS),
        fault=st.sampled_from(list(aws_faults.Fault)),
        times=st.integers(1, 4),
    ),
    st.builds(
        EngineFails,
        pod=PODS,
        fault=st.sampled_from([http_proxy.Fault.ERROR, http_proxy.Fault.OUT_OF_MEMORY, *CUTS]),
        times=st.integers(1, 2),
    ),
    st.builds(EngineRestarts, pod=PODS),
    st.builds(PodVanishes, pod=PODS),
    st.builds(PodStops, pod=PODS, budget=st.sampled_from([0, 100])),
    st.builds(Poison),
)
PAUSES = st.builds(Pause, seconds=st.sampled_from([0.02, 0.1, 0.3]))


@st.composite
def schedules(draw: st.DrawFn) -> list[Step]:
    """Jobs, faults and pauses in any order."""
    jobs = draw(st.lists(SENDS, min_size=5, max_size=12))
    return draw(st.permutations([*jobs, *draw(st.lists(FAULTS, max_size=7)), *draw(st.lists(PAUSES, max_size=5))]))


class Pod:
    """An agent and its engine."""

    def __init__(self, name: str, cloud: Cloud, engine: Any, clock: Clock) -> None:
        self.proxy = EngineProxy(engine, seconds_per_step=0.02)
        self.proxy.start()
        self.aws = FaultyAws(cloud.sqs.meta.endpoint_url)
        values = cloud.settings(
            engine=engine,
            runtime_url=self.proxy.url,
            pod_name=name,
            visibility_timeout_seconds=VISIBILITY,
            max_starts=MAX_STARTS,
        )
        self.agent = Agent(values, aws=self.aws.clients, clock=clock)
        self._thread = threading.Thread(target=self.agent.run, name=name)
        self._thread.start()

    @property
    def is_healthy(self) -> bool:
        """What the engine's liveness probe asks."""
        return not self.agent._watch.needs_restart

    def stop(self, budget: float) -> None:
        """As SIGTERM does; the engine ends after the agent has."""
        self.agent._lifecycle.budget = budget
        self.agent.stop()
        self.join()
        self.proxy.kill()

    def vanish(self) -> None:
        """Let nothing that it does have an effect any more; its threads end as they find out."""
        self.aws.vanish()
        self.proxy.kill()
        self.agent._lifecycle.budget = 0
        self.agent.stop()

    def join(self) -> None:
        """Wait until the agent has ended."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the agent does not end"


class World:
    """What a schedule happens to, and what came of it."""

    def __init__(self, cloud: Cloud, engine: Any, clock: Clock) -> None:
        self.cloud = cloud
        self.engine = engine
        self.clock = clock
        #: Seeds by job ids.
        self.jobs: dict[str, int] = {}
        self.poison = 0
        #: How often a job's run was lost with its engine or its agent, by seeds.
        self.lost: Counter[int] = Counter()
        self._told: Told = {}
        self.every_pod: list[Pod] = []
        self.pods = [self._new_pod(), self._new_pod()]

    def _new_pod(self) -> Pod:
        self.every_pod.append(Pod(f"pod-{len(self.every_pod)}", self.cloud, self.engine, self.clock))
        return self.every_pod[-1]

    def happen(self, step: Step) -> None:
        """Let a step of the schedule happen."""
        match step:
            case Send():
                self._send(step)
            case Poison():
                self.poison += 1
                self.cloud.send("poison")
            case Pause(seconds):
                threading.Event().wait(seconds)
            case AwsFails(pod, what, fault, times):
                self.pods[pod].aws.fail(what, fault, times)
            case EngineFails(pod, fault, times):
                self.pods[pod].proxy.fail_jobs(fault, times)
            case EngineRestarts(pod):
                self._restart(self.pods[pod])
            case PodVanishes(pod):
                self.pods[pod].vanish()
                self._count_lost(self.pods[pod])
                self.pods[pod] = self._new_pod()
            case PodStops(pod, budget):
                self.pods[pod].stop(budget)
                self._count_lost(self.pods[pod])
                self.pods[pod] = self._new_pod()

    def _send(self, step: Send) -> None:
        seed = len(self.jobs) + 1
        if step.way == "api":
            job = new_job(content(self.engine, seed, step.steps), task=task_of(self.engine))
            submit(self.cloud, job)
            job_id, body = job.job_id, message_of(job)
        else:
            job_id = str(uuid4())
            text = json.dumps(message(self.engine, seed, step.steps))
            body = json.dumps({"Type": "Notification", "MessageId": job_id, "Message": text})
            self.cloud.send(body)
        self.jobs[job_id] = seed
        for _ in range(step.copies - 1):
            self.cloud.send(body)

    def _restart(self, pod: Pod) -> None:
        pod.proxy.kill()
        self._count_lost(pod)
        pod.proxy.start()

    def _count_lost(self, pod: Pod) -> None:
        """Note the jobs that have begun in a pod, and have no result."""
        begun = set(pod.proxy.gpu.begun)
        self.lost.update(
            seed for job_id, seed in self.jobs.items() if seed in begun and not result_of(self.cloud, job_id)
        )

    def settle(self) -> None:
        """Let all faults be over, and wait until nothing is left on the queue. What hangs is restarted."""
        for pod in self.pods:
            pod.aws.mend()
            pod.proxy.mend()
        self._told = everything_told(self.cloud, self.jobs, self._probe)

    def _probe(self) -> None:
        for pod in self.pods:
            if not pod.is_healthy:
                self._restart(pod)

    def end(self) -> None:
        """Let every agent end."""
        for pod in self.pods:
            pod.stop(budget=0)
        for pod in self.every_pod:
            pod.join()

    # What has to be true of it

    def check(self) -> None:
        """Every job has one result, which is told, its own picture, and no run too many."""
        assert set(self._told) == set(self.jobs)
        begun = Counter(seed for pod in self.every_pod for seed in pod.proxy.gpu.begun)
        hits = [hit for pod in self.every_pod for hit in pod.proxy.hit]
        retryable: set[str] = set()
        for job_id, seed in self.jobs.items():
            result = assert_told_as_recorded(self.cloud, job_id, self._told)
            # The web UI's pictures are in its answer alone; ComfyUI keeps them until they are fetched.
            cut = sum(1 for hit, fault in hits if hit == seed and fault in CUTS and self.engine == "sdwebui")
            assert begun[seed] <= 1 + self.lost[seed] + cut, f"job {seed} was begun too often"
            if result.status is JobStatus.COMPLETED:
                assert_picture(self.cloud, result, seed)
            else:
                failures = sum(1 for hit, _ in hits if hit == seed) + self.lost[seed]
                assert result.error is not None
                assert result.error.retryable
                assert failures >= MAX_STARTS, f"job {seed} failed for nothing: {result.error.message}"
                retryable.add(job_id)
        self._check_dead_letters(retryable)

    def _check_dead_letters(self, retryable: set[str]) -> None:
        poison, letters = 0, set()
        while self.cloud.count(self.cloud.dead_letter_queue):
            body, _ = self.cloud.dead_letter()
            if body == "poison":
                poison += 1
            else:
                outer = json.loads(body)
                letters.add(outer.get("MessageId") or outer["metadata"]["darkroom"]["job_id"])
        assert letters == retryable
        # SQS may deliver it more than once, and an answer to its move may have been lost.
        assert poison >= self.poison


def run(endpoint: str, engine: str, schedule: list[Step]) -> None:
    with fast_world(SPEED) as clock:
        world = World(new_cloud(endpoint), engine, clock)
        try:
            for step in schedule:
                world.happen(step)
            world.settle()
        finally:
            world.end()
        assert world.cloud.count(world.cloud.queue) == 0
        world.check()


@pytest.mark.parametrize("engine", ["sdwebui", "comfyui"])
@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(EXAMPLES_OF_THE_SLOW_SUITE, marks=pytest.mark.slow)])
def test_every_job_ends_once_whatever_goes_wrong(aws_endpoint: str, engine: str, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        print_blob=True,
        # Threads race: what failed once need not fail again, and smaller schedules are other races.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules())
    def any_schedule(schedule: list[Step]) -> None:
        run(aws_endpoint, engine, schedule)

    any_schedule()
