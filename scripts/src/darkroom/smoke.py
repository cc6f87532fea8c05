"""``darkroom smoke``: one prompt for each runtime of a real deployment, at once, and what happened when.

It talks to the API, and reads the facts of its jobs in S3 and their pods from Kubernetes where it may; it changes
nothing but by the jobs that it sends.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event
from typing import Any, TypeVar

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from darkroom.client import Client, RequestRefused
from darkroom.cluster_files import ClusterFiles
from darkroom.doctor.context import NAMESPACE
from darkroom.doctor.objects import condition
from darkroom.kubectl import Kubectl, Object
from darkroom.programs import ProgramFailed
from darkroom.trouble import Trouble
from darkroom_contract.records import PublishedRecord, StateRecord
from darkroom_contract.runtime import Runtime
from darkroom_contract.store import JobStore
from darkroom_contract.types import Engine, JsonObject, Task, utcnow
from darkroom_contract.v1 import JobStatus, JobView, SubmitRequest
from darkroom_contract.workflows import InputType, Workflow, WorkflowInput

#: Where the pictures go in the output bucket.
PREFIX = "smoke"
_TEXT = "a red apple on a white background"
#: Small and quick; what counts is that a picture comes.
_SETTINGS = {"steps": 8, "width": 512, "height": 512}
#: How long a runtime at zero pods may take to start, in seconds: a node, its images and the model take two to four
#: minutes (docs/cold-start.md), more where there is little capacity.
_COLD_START_SECONDS = 900
#: A whole picture of a single pixel, for workflows that want one.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


_Read = TypeVar("_Read")


class Skipped(Trouble):
    """A runtime has nothing that could be asked of it without knowing its models; the message says what would help."""


@dataclass(frozen=True)
class Step:
    """Something that happened to a job, and how long after it was sent."""

    name: str
    seconds: float
    words: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a runtime's prompt."""

    runtime: str
    #: None: it was not sent.
    job_id: str | None = None
    #: Why there is no picture; None: there is one.
    failure: str | None = None
    #: Why it was not sent, which is no failure.
    skipped: str | None = None
    steps: tuple[Step, ...] = ()
    pictures: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """From the sending to the picture."""
        return next((step.seconds for step in self.steps if step.name == "saved"), None)


@dataclass(frozen=True)
class Witnesses:
    """Who else knows what happened to a job, where they may be asked."""

    #: Of the cluster's bucket for jobs.
    store: JobStore | None = None
    tenants: tuple[str, ...] = ()
    kubernetes: Kubectl | None = None

    def published(self, job_id: str) -> PublishedRecord | None:
        """When SNS got a job's message; None where that is not known."""
        return self._read(job_id, lambda store, tenant: store.published(tenant, job_id))

    def state(self, job_id: str) -> StateRecord | None:
        """Which agent has a job, or had it last; None where that is not known."""
        found = self._read(job_id, lambda store, tenant: store.state(tenant, job_id))
        return found[0] if found else None

    def _read(self, job_id: str, read: Callable[[JobStore, str], _Read | None]) -> _Read | None:
        if self.store is None:
            return None
        try:
            tenant = next((each for each in self.tenants if self.store.request(each, job_id)), None)
            return read(self.store, tenant) if tenant else None
        except (ClientError, BotoCoreError):  # the API's own answers are enough
            return None


@dataclass
class _Sent:
    """A job on its way, and what was seen of it."""

    runtime: str
    job: JobView
    sent_at: datetime
    accepted_at: datetime
    steps: list[Step] = field(default_factory=list)

    def add(self, name: str, at: datetime | None, words: str = "") -> None:
        if at is not None:
            self.steps.append(Step(name, round((at - self.sent_at).total_seconds(), 1), words))


def budget(runtime: Runtime, *, is_local: bool) -> float:
    """For how many seconds a runtime's picture may be waited for."""
    usual = runtime.scaling.seconds_per_picture or 60
    cold = 0 if is_local or runtime.scaling.min_pods else _COLD_START_SECONDS
    return cold + runtime.scaling.start_within_seconds + usual


def request_for(name: str, runtime: Runtime, workflows: dict[str, Workflow]) -> SubmitRequest:
    """A prompt that a runtime can draw; raises ``Skipped``."""
    sending = {"id": uuid.uuid4().hex, "runtime": name, "prefix": PREFIX}
    if runtime.engine is Engine.SDWEBUI:
        content: JsonObject = {"prompt": _TEXT, **_SETTINGS}
        return SubmitRequest.model_validate({**sending, "task": Task.TEXT_TO_IMAGE, "content": content})
    if workflows:
        chosen, workflow = next(iter(sorted(workflows.items())))
        inputs = {
            key: _value(each) for key, each in workflow.inputs.items() if each.default is None and not each.is_seed
        }
        return SubmitRequest.model_validate({**sending, "task": Task.PIPELINE, "workflow": chosen, "inputs": inputs})
    if runtime.checkpoint:
        return SubmitRequest.model_validate({**sending, "task": Task.PIPELINE, "content": _graph(runtime.checkpoint)})
    raise Skipped(f"it has no workflow and names no checkpoint: put one into runtimes/{name}/workflows/")


def run(
    client: Client, files: ClusterFiles, runtimes: Sequence[str], witnesses: Witnesses, *, seconds: dict[str, float]
) -> Iterator[Outcome]:
    """Send a prompt to each runtime, all at once; what became of each, in the order of the runtimes.

    ``seconds`` is how long each may take. It raises nothing: what goes wrong is an outcome's ``failure``.
    """
    nobody_waits = Event()

    def one(name: str) -> Outcome:
        return _one(_Watch(client, nobody_waits, seconds[name]), files, name, witnesses)

    with ThreadPoolExecutor(max_workers=max(1, len(runtimes))) as threads:
        try:
            yield from threads.map(one, runtimes)
        finally:
            nobody_waits.set()


@dataclass(frozen=True)
class _Watch:
    """How a job is watched: by whom, and for how many seconds, unless it is given up before."""

    client: Client
    is_given_up: Event
    seconds: float


def _one(watch: _Watch, files: ClusterFiles, name: str, witnesses: Witnesses) -> Outcome:
    try:
        request = request_for(name, files.runtimes[name], files.workflows.get(name, {}))
    except Skipped as reason:
        return Outcome(name, skipped=str(reason))
    sent_at = utcnow()
    try:
        job = watch.client.submit(request)
        sent = _Sent(name, job, sent_at, utcnow())
        failure = _follow(watch, sent)
    except (RequestRefused, httpx.HTTPError, ValidationError) as error:
        return Outcome(name, request.id, failure=f"the API: {error}")
    _tell(sent, witnesses)
    pictures = tuple(image.location for image in sent.job.images)
    return Outcome(
        name, job.id, failure=failure, steps=tuple(sorted(sent.steps, key=lambda step: step.seconds)), pictures=pictures
    )


class _TooLate(Exception):  # noqa: N818 - it says what happened
    pass


def _follow(watch: _Watch, sent: _Sent) -> str | None:
    """Watch a job to its end or the deadline; why it has no picture."""
    deadline = sent.sent_at + timedelta(seconds=watch.seconds)

    def in_time() -> None:
        if utcnow() > deadline or watch.is_given_up.is_set():
            raise _TooLate

    try:
        for view in watch.client.follow(sent.job, in_time):
            sent.job = view
    except _TooLate:
        return f"no picture within {watch.seconds:.0f} s: the job is {sent.job.status}"
    if sent.job.status is JobStatus.COMPLETED:
        return None
    return f"{sent.job.status}: {sent.job.error.message}" if sent.job.error else str(sent.job.status)


def _tell(sent: _Sent, witnesses: Witnesses) -> None:
    """The steps of a job, by the API's answers and by who else knows them."""
    job = sent.job
    sent.add("accepted", sent.accepted_at, "by the API")
    if published := witnesses.published(job.id):
        sent.add("published", published.published_at, "SNS has it")
    if state := witnesses.state(job.id):
        sent.add("received", state.started_at, f"by the agent {state.holder}")
    for name, at, words in _pod_steps(witnesses.kubernetes, state.holder if state else None):
        if at >= sent.sent_at:
            sent.add(name, at, words)
    if job.status is JobStatus.COMPLETED and job.started_at and job.finished_at:
        sent.add("started", job.started_at, "by the engine")
        sent.add("generated", job.started_at + timedelta(seconds=job.seconds.get("generate", 0)))
        sent.add("saved", job.finished_at, f"{len(job.images)} picture{'s' * (len(job.images) != 1)}, result recorded")


def _pod_steps(kubernetes: Kubectl | None, pod: str | None) -> Iterator[tuple[str, datetime, str]]:
    """When a pod and its node came, as Kubernetes tells."""
    if kubernetes is None or pod is None:
        return
    try:
        found = kubernetes.get("pods", pod, NAMESPACE)
        node = kubernetes.get("nodes", found["spec"]["nodeName"]) if found and found["spec"].get("nodeName") else None
    except ProgramFailed:
        return
    if found:
        yield "pod", _time(found["metadata"]["creationTimestamp"]), pod
        yield from _since(found, "PodScheduled", "scheduled", str(found["spec"].get("nodeName")))
        yield from _since(found, "Ready", "ready", "the engine answers")
    if node:
        labels = node["metadata"].get("labels", {})
        kind = [labels.get(key, "") for key in ("node.kubernetes.io/instance-type", "karpenter.sh/capacity-type")]
        yield (
            "node",
            _time(node["metadata"]["creationTimestamp"]),
            " ".join(filter(None, [node["metadata"]["name"], *kind])),
        )
        yield from _since(node, "Ready", "node ready", "")


def _since(item: Object, name: str, step: str, words: str) -> Iterator[tuple[str, datetime, str]]:
    found = condition(item, name)
    if found and found["status"] == "True":
        yield step, _time(found["lastTransitionTime"]), words


def _time(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp)


def _value(each: WorkflowInput) -> Any:
    """Something that a workflow takes for an input that has no default."""
    if each.enum:
        return each.enum[0]
    match each.type:
        case InputType.STRING:
            return _TEXT
        case InputType.BOOLEAN:
            return False
        case InputType.IMAGE:
            return _PIXEL
    bound = each.minimum if each.minimum is not None else each.maximum
    number = bound if bound is not None else 1
    return int(number) if each.type is InputType.INTEGER else number


def _graph(checkpoint: str) -> JsonObject:
    """The least that ComfyUI draws a picture by, in its API format."""
    size: JsonObject = {"width": _SETTINGS["width"], "height": _SETTINGS["height"], "batch_size": 1}
    sampling: JsonObject = {
        "seed": 0,
        "steps": _SETTINGS["steps"],
        "cfg": 7,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1,
    }
    links: JsonObject = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": _TEXT, "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "4": {"class_type": "EmptyLatentImage", "inputs": size},
        "5": {"class_type": "KSampler", "inputs": {**sampling, **links}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"filename_prefix": "smoke", "images": ["6", 0]}},
    }
