"""What the tests of the story look at: what clients see, what is in the cluster, and what is in AWS."""

import json
import uuid
from typing import Any

from darkroom.local.composites import NAMESPACE
from darkroom_contract.names import Bucket, JobFact, job_key, registry_key
from darkroom_contract.types import DEFAULT_TENANT
from tests.e2e.controlplane.api import Object, is_true
from tests.e2e.gitops import GitOpsWorld
from tests.flow.flow import Flow

# What clients see


def prompt(runtime: str, steps: int = 15) -> dict[str, Any]:
    content = {"prompt": "a lighthouse on a cliff", "steps": steps, "width": 128, "height": 64, "seed": 7}
    return {"id": uuid.uuid4().hex, "runtime": runtime, "task": "text-to-image", "content": content}


def submit(flow: Flow, runtime: str, count: int, steps: int = 15) -> list[str]:
    """Have prompts accepted; the jobs' ids."""
    requests = [prompt(runtime, steps) for _ in range(count)]
    for request in requests:
        answer = flow.post("v1/jobs", request)
        assert answer.status_code == 202, answer.text
    return [request["id"] for request in requests]


def fact(flow: Flow, job: str, fact: JobFact) -> Any:
    """What is recorded of a job; None when it is not."""
    bucket, key = flow.stack.bucket(Bucket.JOBS), job_key(DEFAULT_TENANT, job, fact)
    return flow.json_object(f"s3://{bucket}/{key}") if key in flow.keys(Bucket.JOBS, key) else None


def result_of(flow: Flow, job: str) -> Any:
    return fact(flow, job, JobFact.RESULT)


def pictures(flow: Flow, job: str) -> list[str]:
    return [key for key in flow.keys(Bucket.OUTPUTS, f"{job}/") if key.endswith(".png")]


# What is in the cluster


def sync_status(application: Object) -> str | None:
    status: str | None = application.get("status", {}).get("sync", {}).get("status")
    return status


def wait_ready_pods(world: GitOpsWorld, runtime: str, count: int, agent: str | None = None) -> None:
    """Wait until a runtime has so many pods and no others, all ready; with this image of the agent, if one is given."""

    def are_ready() -> bool:
        pods = world.pods(runtime)
        agents = {item["spec"]["containers"][0]["image"] for item in pods}
        return len(pods) == count and all(map(is_true("Ready"), pods)) and (agent is None or agents == {agent})

    world.eventually(are_ready, f"{count} pods of {runtime} are ready, and there are no others")


def wait_running(world: GitOpsWorld, flow: Flow, runtime: str, job: str) -> Object:
    """Wait until a job runs; the pod that runs it."""

    def holder() -> Object | None:
        state = fact(flow, job, JobFact.STATE)
        pods = {item["metadata"]["name"]: item for item in world.pods(runtime)}
        return pods.get(state["holder"]) if state and jobs_of(world, [state["holder"]])[-1:] == [job] else None

    found: Object = world.eventually(holder, "the job runs")
    return found


def names_of(pods: list[Object]) -> list[str]:
    return [item["metadata"]["name"] for item in pods]


def variables_of(pod: Object) -> dict[str, str]:
    """What the chart sets in the agent's environment."""
    return {entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"] if "value" in entry}


def environment_of(world: GitOpsWorld, pod: Object) -> dict[str, str]:
    """The environment of the agent's process."""
    return world.kubelet.processes(pod["metadata"]["name"], "agent")[0].environ()


def claims_of(world: GitOpsWorld, runtime: str) -> list[str]:
    """The claims of the nodes that a runtime's pods are on."""
    claims = world.node_claims()
    nodes = (item["spec"].get("nodeName") for item in world.pods(runtime))
    return [claims[node] for node in nodes if node in claims]


def events(world: GitOpsWorld, pods: list[str], event: str) -> list[Any]:
    """The lines of agents' logs about an event."""
    lines = (line for pod in pods for line in world.kubelet.log(pod, "agent").splitlines())
    entries = (json.loads(line) for line in lines if line.startswith("{") and line.endswith("}"))
    return [entry for entry in entries if entry["event"] == event]


def jobs_of(world: GitOpsWorld, pods: list[str]) -> list[str]:
    """The jobs that pods have begun, each as often as they have."""
    return [entry["job_id"] for entry in events(world, pods, "job starts")]


def handed_back(world: GitOpsWorld, pod: str) -> bool:
    return bool(events(world, [pod], "job handed back"))


def storage_as_it_is(world: GitOpsWorld) -> dict[str, str]:
    """What holds data, by the objects' identities."""
    (storage,) = world.api.list("darkroom.dev/v1alpha1", "Storage", NAMESPACE)
    return {
        f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"]
        for item in (storage, *world.world.managed(storage))
    }


# What is in AWS


def made_in_aws(world: GitOpsWorld, runtime: str) -> dict[str, bool]:
    """Whether what a runtime has in AWS is there."""
    names, client = world.names, world.stack.aws_client
    queues = client("sqs").list_queues().get("QueueUrls", [])
    topic = names.topic_arn(names.prompt_topic)
    subscribers = [
        item["Endpoint"]
        for page in client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        for item in page["Subscriptions"]
    ]
    roles = [
        item["RoleName"] for page in client("iam").get_paginator("list_roles").paginate() for item in page["Roles"]
    ]
    registry = client("s3").list_objects_v2(Bucket=names.bucket(Bucket.JOBS), Prefix=registry_key(runtime))
    return {
        "queue": any(url.endswith(f"/{names.runtime_queue(runtime)}") for url in queues),
        "dead-letter queue": any(url.endswith(f"/{names.dead_letter_queue(runtime)}") for url in queues),
        "subscription": names.queue_arn(names.runtime_queue(runtime)) in subscribers,
        "role": names.runtime_role(runtime) in roles,
        "registry entry": bool(registry.get("KeyCount")),
    }
