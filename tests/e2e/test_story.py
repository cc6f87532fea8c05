"""The whole story, from a push to a picture and back to nothing; and what becomes of jobs when the cluster changes."""

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest

from darkroom.local.composites import NAMESPACE
from darkroom_contract.names import Bucket, JobFact
from tests.e2e.controlplane.api import is_gone, is_true
from tests.e2e.gitops import QUICK, SECONDS_PER_STEP, GitOpsWorld, Timeline, image, runtime_file
from tests.e2e.observations import (
    claims_of,
    environment_of,
    events,
    fact,
    handed_back,
    jobs_of,
    made_in_aws,
    names_of,
    pictures,
    prompt,
    result_of,
    storage_as_it_is,
    submit,
    sync_status,
    variables_of,
    wait_ready_pods,
    wait_running,
)
from tests.flow.flow import Flow

#: A Spot instance is told so long before it ends (EC2 User Guide, "Spot Instance interruption notices"), in seconds.
SPOT_NOTICE_SECONDS = 120
#: What a test of an interruption divides it by, and with it all times of the charts that are made for it.
FASTER = 10
BUDGET_SECONDS, GRACE_SECONDS = 100, 150
#: What these files say of them.
SPOT_TIMES = {
    "apps/sd-runtime/templates/_agent.tpl": ('SHUTDOWN_BUDGET_SECONDS: "{}"', BUDGET_SECONDS),
    "apps/sd-runtime/templates/deployment.yaml": ("terminationGracePeriodSeconds: {}", GRACE_SECONDS),
    "apps/gpu-nodes/templates/nodepool.yaml": ("terminationGracePeriod: {}s", GRACE_SECONDS),
}


@pytest.fixture
def flow(gitops_world: GitOpsWorld) -> Iterator[Flow]:
    """What a client does and sees."""
    with closing(Flow(gitops_world.stack)) as flow:
        yield flow


@pytest.fixture(scope="module")
def others(gitops_world: GitOpsWorld) -> Iterator[None]:
    """The runtimes that the tests after the story need, pushed at once."""
    gitops_world.push_runtime("steady", scaling={**QUICK, "minPods": 2})
    gitops_world.push_runtime("spot", capacity="spot")
    gitops_world.push_runtime("abandoned", resources={"cpu": 999})  # as no machine has them
    yield
    for name in ("steady", "spot"):
        gitops_world.remove_runtime(name)


@pytest.fixture(scope="module")
def abandoned(gitops_world: GitOpsWorld, others: None) -> list[str]:
    """The jobs of a runtime whose folder is removed before it has a GPU, while they are in its queue."""
    gitops_world.wait_ready("abandoned")
    with closing(Flow(gitops_world.stack)) as flow:
        jobs = submit(flow, "abandoned", 3)
    gitops_world.remove_runtime("abandoned")
    return jobs


@pytest.fixture(scope="module")
def steady(gitops_world: GitOpsWorld, abandoned: list[str]) -> str:
    """A runtime that always has two pods. It comes after ``abandoned``, whose jobs the janitor leaves for a minute."""
    gitops_world.wait_ready("steady")
    wait_ready_pods(gitops_world, "steady", 2)
    return "steady"


def test_a_folder_is_pushed_and_serves_and_is_removed_and_costs_nothing_any_more(
    gitops_world: GitOpsWorld, flow: Flow, timeline: Timeline
) -> None:
    storage = storage_as_it_is(gitops_world)
    serve(gitops_world, timeline, "sdxl")
    jobs = draw(gitops_world, flow, timeline, "sdxl", prompts=8)
    nodes = come_to_rest(gitops_world, flow, timeline, "sdxl")
    close(gitops_world, flow, timeline, "sdxl")
    lose_nodes(gitops_world, timeline, nodes)
    remove(gitops_world, timeline, "sdxl")
    for job in jobs:
        assert flow.get(f"v1/jobs/{job}").json()["status"] == "completed"
        assert flow.keys(Bucket.OUTPUTS, f"{job}/")
    assert storage_as_it_is(gitops_world) == storage


def serve(world: GitOpsWorld, timeline: Timeline, name: str) -> None:
    timeline.note(f"pushed: {runtime_file(name)}")
    world.push_runtime(name)
    world.wait_application(f"runtime-{name}", lambda item: sync_status(item) == "Synced")
    timeline.note("Argo CD: Synced")
    world.wait("darkroom.dev/v1alpha1", "ModelRuntime", name, is_true("Synced", "Ready"))
    timeline.note("Crossplane: ModelRuntime Ready")
    world.wait_ready(name)
    timeline.note("Argo CD: Healthy")
    made = made_in_aws(world, name)
    assert all(made.values()), made
    assert not world.pods(name)


def draw(world: GitOpsWorld, flow: Flow, timeline: Timeline, name: str, prompts: int) -> list[str]:
    jobs = submit(flow, name, prompts, steps=15)
    timeline.note(f"{prompts} prompts accepted")
    world.wait("apps/v1", "Deployment", name, lambda item: item["spec"]["replicas"] >= 1)
    timeline.note("KEDA: 0 to 1 pod")
    world.eventually(lambda: claims_of(world, name), "a pod is on a node of Karpenter's")
    timeline.note("Karpenter: the first pod has its node")
    world.eventually(lambda: any(map(is_true("Ready"), world.pods(name))), "a pod is ready")
    timeline.note("kubelet: the first pod is ready")
    for pod in filter(is_true("Ready"), world.pods(name)):
        assert variables_of(pod).items() <= environment_of(world, pod).items()
    notifications = flow.notifications(1, lambda it: it["id"] in jobs)
    timeline.note("the first picture is there")
    world.wait("apps/v1", "Deployment", name, lambda item: item["spec"]["replicas"] == 2)
    timeline.note("autoscaler: 1 to 2 pods")
    notifications += flow.notifications(prompts - len(notifications), lambda it: it["id"] in jobs)
    timeline.note("all pictures are there")
    assert Counter(it["id"] for it in notifications) == dict.fromkeys(jobs, 1)
    for it in notifications:
        (url,) = it["image_url"]
        picture = flow.picture(url)
        assert picture.size == (128, 64)
        assert picture.info["parameters"].startswith("a lighthouse")
    return jobs


def come_to_rest(world: GitOpsWorld, flow: Flow, timeline: Timeline, name: str) -> set[str]:
    nodes = {item["spec"]["nodeName"] for item in world.pods(name)}
    world.eventually(lambda: not flow.waiting(world.names.runtime_queue(name)), "the queue is empty")
    timeline.note("the queue is empty")
    world.wait("apps/v1", "Deployment", name, lambda item: item["spec"]["replicas"] == 0)
    timeline.note("KEDA: back to 0 pods")
    world.eventually(lambda: not world.pods(name), "all pods have ended")
    timeline.note("kubelet: the pods have ended")
    return nodes


def lose_nodes(world: GitOpsWorld, timeline: Timeline, nodes: set[str]) -> None:
    world.eventually(lambda: not nodes & world.node_claims().keys(), "the empty nodes are gone")
    assert not nodes & set(names_of(world.api.list("v1", "Node")))
    timeline.note("Karpenter: the nodes are gone")


def close(world: GitOpsWorld, flow: Flow, timeline: Timeline, name: str) -> None:
    world.push_runtime(name, accepting=False)
    timeline.note("pushed: accepting: false")
    # An incomplete prompt is refused either way, and says which.
    incomplete = {"runtime": name, "workflow": "none"}
    world.eventually(lambda: flow.post("v1/jobs", incomplete).status_code == 409, "the API takes nothing more")
    timeline.note("API: 409")
    answer = flow.post("v1/jobs", prompt(name))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "runtime_not_accepting")


def remove(world: GitOpsWorld, timeline: Timeline, name: str) -> None:
    world.remove_runtime(name)
    timeline.note("pushed: the folder's removal")
    world.wait_removed(name)
    timeline.note("Argo CD: the Application is gone")
    try:
        world.eventually(lambda: not any(made_in_aws(world, name).values()), "all of it is gone from AWS")
    except TimeoutError as error:
        raise TimeoutError(f"{error}; left: {made_in_aws(world, name)}") from error
    timeline.note("AWS: all of it is gone")
    for api_version, kind in (
        ("apps/v1", "Deployment"),
        ("keda.sh/v1alpha1", "ScaledObject"),
        ("darkroom.dev/v1alpha1", "ModelRuntime"),
        ("v1", "ServiceAccount"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
    ):
        world.wait(api_version, kind, name, is_gone)


def test_a_new_digest_is_rolled_out_while_jobs_run_and_each_is_drawn_once(
    gitops_world: GitOpsWorld, flow: Flow, timeline: Timeline, steady: str
) -> None:
    jobs: list[str] = []
    before = names_of(gitops_world.pods(steady))

    def is_drawn_by(is_new: bool) -> bool:
        """Keep prompts coming meanwhile."""
        if flow.waiting(gitops_world.names.runtime_queue(steady)) < 6:
            jobs.extend(submit(flow, steady, 2, steps=10))
        pods = [name for name in names_of(gitops_world.pods(steady)) if (name not in before) == is_new]
        return bool(events(gitops_world, pods, "job starts"))

    gitops_world.eventually(lambda: is_drawn_by(is_new=False), "the pods draw")
    gitops_world.push_images(agent="second")
    timeline.note("pushed: another digest of the agent, while jobs run and prompts come")
    gitops_world.eventually(lambda: is_drawn_by(is_new=True), "a new pod draws")
    timeline.note("a new pod draws")
    wait_ready_pods(gitops_world, steady, 2, agent=image("agent", "second"))
    timeline.note("all pods are new")
    notifications = flow.notifications(len(jobs), lambda it: it["id"] in jobs)
    timeline.note(f"all {len(jobs)} jobs are answered")
    assert Counter(it["id"] for it in notifications) == dict.fromkeys(jobs, 1)
    assert all(it["result"] for it in notifications)
    assert not flow.has_further_notification(lambda it: it["id"] in jobs)
    old, new = (jobs_of(gitops_world, pods) for pods in (before, names_of(gitops_world.pods(steady))))
    timeline.note(f"the old pods drew {len(old)}, the new ones {len(new)}")
    assert old
    assert new
    assert sorted(old + new) == sorted(jobs)
    assert len(events(gitops_world, before, "agent stopped")) == len(before)
    assert {job: len(pictures(flow, job)) for job in jobs} == dict.fromkeys(jobs, 1)


def test_a_busy_node_that_is_to_go_lets_its_agent_finish(
    gitops_world: GitOpsWorld, flow: Flow, timeline: Timeline, steady: str
) -> None:
    (job,) = submit(flow, steady, 1, steps=60)
    pod = wait_running(gitops_world, flow, steady, job)
    claim = gitops_world.node_claims()[pod["spec"]["nodeName"]]
    gitops_world.api.delete("karpenter.sh/v1", "NodeClaim", claim)
    timeline.note("the NodeClaim of a pod that draws is deleted")
    name = pod["metadata"]["name"]
    (stopping,) = gitops_world.eventually(lambda: events(gitops_world, [name], "stopping"), "SIGTERM is in the agent")
    timeline.note(f"{stopping['signal']} is in the agent")
    (notification,) = flow.notifications(1, lambda it: it["id"] == job)
    timeline.note("the job is done")
    assert notification["result"] is True
    result = result_of(flow, job)
    assert datetime.fromisoformat(stopping["time"]) < datetime.fromisoformat(result["finished_at"])
    assert result["starts"] == 1
    gitops_world.api.wait("karpenter.sh/v1", "NodeClaim", claim, None, is_gone, 120)
    timeline.note("the node is gone")
    assert jobs_of(gitops_world, [name])[-1] == job
    assert events(gitops_world, [name], "agent stopped")
    wait_ready_pods(gitops_world, steady, 2)


def test_a_job_on_a_spot_node_that_is_taken_away_is_done_elsewhere(
    gitops_world: GitOpsWorld, flow: Flow, timeline: Timeline, spot: str
) -> None:
    longer_than_the_budget = int(1.5 * BUDGET_SECONDS / FASTER / SECONDS_PER_STEP)
    (job,) = submit(flow, spot, 1, steps=longer_than_the_budget)
    pod = wait_running(gitops_world, flow, spot, job)
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
    gitops_world.api.delete("karpenter.sh/v1", "NodeClaim", gitops_world.node_claims()[node])
    taken_away = time.monotonic() + SPOT_NOTICE_SECONDS / FASTER
    timeline.note(f"the NodeClaim is deleted; the machine ends in {SPOT_NOTICE_SECONDS // FASTER} s")
    gitops_world.eventually(lambda: events(gitops_world, [name], "stopping"), "SIGTERM is in the agent")
    timeline.note("SIGTERM is in the agent")
    gitops_world.eventually(lambda: time.monotonic() > taken_away, "AWS takes the machine")
    gitops_world.kubelet.kill_node(node)
    timeline.note("the machine is gone" + ("; the job was handed back" if handed_back(gitops_world, name) else ""))
    (notification,) = flow.notifications(1, lambda it: it["id"] == job)
    timeline.note("the job is done")
    assert notification["result"] is True
    assert not flow.has_further_notification(lambda it: it["id"] == job)
    other = fact(flow, job, JobFact.STATE)["holder"]
    assert other != name
    assert jobs_of(gitops_world, [name]) == jobs_of(gitops_world, [other]) == [job]
    assert len(pictures(flow, job)) == 1


@pytest.fixture
def spot(gitops_world: GitOpsWorld, others: None) -> Iterator[str]:
    """A runtime on Spot nodes, by charts in which what is made for Spot's two minutes is made for so much less."""
    texts = {path: (gitops_world.repository.folder / path).read_text() for path in SPOT_TIMES}
    faster = {path: sooner(texts[path], *said) for path, said in SPOT_TIMES.items()}
    gitops_world.push("Spot, sooner", faster)
    grace = GRACE_SECONDS // FASTER
    gitops_world.eventually(lambda: spot_grace(gitops_world) == (f"{grace}s", grace), "the charts' times are shorter")
    yield "spot"
    gitops_world.push("Spot, as it is", texts)


def sooner(template: str, said: str, seconds: int) -> str:
    """A template with a time that it says made shorter."""
    assert template.count(said.format(seconds)) == 1
    return template.replace(said.format(seconds), said.format(seconds // FASTER))


def spot_grace(world: GitOpsWorld) -> tuple[str | None, int | None]:
    """How long a node has to end, and a pod."""
    pool = world.api.find("karpenter.sh/v1", "NodePool", "gpu-g5")
    deployment = world.api.find("apps/v1", "Deployment", "spot", NAMESPACE)
    node, pod = ((item or {}).get("spec", {}).get("template", {}).get("spec", {}) for item in (pool, deployment))
    return node.get("terminationGracePeriod"), pod.get("terminationGracePeriodSeconds")


def test_jobs_whose_runtime_was_removed_before_it_drew_them_are_answered(
    gitops_world: GitOpsWorld, flow: Flow, timeline: Timeline, abandoned: list[str]
) -> None:
    gitops_world.wait_removed("abandoned")
    timeline.note(f"the runtime is gone, with {len(abandoned)} jobs in its queue")

    def are_answered() -> bool:
        """Run the janitor as often as it takes, as its CronJob does."""
        run_janitor(gitops_world)
        timeline.note("the janitor has run")
        return all(result_of(flow, job) for job in abandoned)

    gitops_world.eventually(are_answered, "the janitor answers the jobs")
    notifications = flow.notifications(len(abandoned), lambda it: it["id"] in abandoned)
    assert Counter(it["id"] for it in notifications) == dict.fromkeys(abandoned, 1)
    for job in abandoned:
        view = flow.get(f"v1/jobs/{job}").json()
        assert (view["status"], view["error"]["code"]) == ("failed", "runtime_removed")


def run_janitor(world: GitOpsWorld) -> None:
    """Run the pod of the CronJob to its end, with another setting of one kind: how long a job has to be untouched."""
    cron = world.api.find("batch/v1", "CronJob", "janitor", NAMESPACE)
    assert cron
    spec = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    spec["containers"][0]["env"].append({"name": "QUIET_SECONDS", "value": "60"})
    name = f"janitor-{uuid.uuid4().hex[:8]}"
    # Of all pods the kubelet's stand-in runs those of runtimes; a pod that has a node needs no scheduler.
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "sd-runtime"}}
    world.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "system"}})
    world.api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "nodeName": "system"}})
    ended = world.wait("v1", "Pod", name, lambda item: item.get("status", {}).get("phase") in {"Succeeded", "Failed"})
    assert ended["status"]["phase"] == "Succeeded", world.kubelet.log(name, "janitor")
    world.api.delete("v1", "Pod", name, NAMESPACE)
    world.api.delete("v1", "Node", "system")
