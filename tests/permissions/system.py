"""A local stack whose function and agent reach AWS through the policy proxy, each with its own role's access key."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config

from darkroom.cluster_files import ClusterFiles, load_cluster
from darkroom.local.processes import Child
from darkroom.local.stack import Options, Stack
from darkroom_contract.names import Actor, Names
from darkroom_function import policy
from tests.flow.flow import Flow
from tests.permissions.documents import composed_resources, policies_of
from tests.permissions.proxy import SNS, PolicyProxy

RUNTIME = "webui"
INPUT_BUCKETS = ("photos", "sketches")


def cluster_files() -> ClusterFiles:
    """The local cluster with one runtime, and with input buckets."""
    files = load_cluster(Path(__file__).parents[2] / "clusters" / "local")
    cluster = files.cluster.model_copy(update={"input_buckets": INPUT_BUCKETS})
    return replace(files, cluster=cluster, runtimes={RUNTIME: files.runtimes[RUNTIME]})


FILES = cluster_files()
NAMES: Names = FILES.cluster.names
API_ROLE = NAMES.role_arn(NAMES.role(Actor.API))
AGENT_ROLE = NAMES.role_arn(NAMES.runtime_role(RUNTIME))
#: Somebody who may do everything that a resource's policy does not deny.
OPERATOR = NAMES.role_arn("operator")
KEDA_ROLE, MOUNTPOINT_ROLE, JANITOR_ROLE = (
    NAMES.role_arn(NAMES.role(actor)) for actor in (Actor.KEDA, Actor.MOUNTPOINT, Actor.JANITOR)
)
RESOURCES = composed_resources(FILES)
COMPOSED = policies_of(FILES.cluster, RESOURCES)
POLICIES = COMPOSED.changed("identity", OPERATOR, policy.document(policy.allow("Everything", ["*"], ["*"])))
QUEUES = (
    NAMES.runtime_queue(RUNTIME),
    NAMES.dead_letter_queue(RUNTIME),
    NAMES.result_topic,
    NAMES.result_dead_letter_queue,
    NAMES.interruption_queue,
)
TOPICS = (NAMES.prompt_topic, NAMES.result_topic)
#: The agent's, in seconds: so short that a job outlasts the first third, when the heartbeat prolongs it.
_VISIBILITY_TIMEOUT = 3


def access_key(role: str) -> str:
    """The access key of a role."""
    return role.rpartition("/")[2]


@dataclass
class System:
    """The parts, and how to reach them."""

    stack: Stack
    proxy: PolicyProxy
    session: boto3.Session

    def environment(self, role: str) -> dict[str, str]:
        """How a process with a role reaches AWS."""
        return {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_CA_BUNDLE": str(self.proxy.ca_bundle),
            "AWS_ACCESS_KEY_ID": access_key(role),
        }

    def client(self, role: str, service: Any, *, plain: bool = False) -> Any:
        """A client with a role, over TLS or plain HTTP, that tries once."""
        return self.session.client(
            service,
            aws_access_key_id=access_key(role),
            aws_secret_access_key="secret",
            endpoint_url=self.proxy.plain_url if plain else self.proxy.url,
            verify=str(self.proxy.ca_bundle),
            config=Config(retries={"total_max_attempts": 1}),
        )

    def start_agent(self) -> Child:
        """The runtime's agent, as its pod would run it."""
        environment = {
            **self.stack.agent_environment(RUNTIME),
            **self.environment(AGENT_ROLE),
            "VISIBILITY_TIMEOUT_SECONDS": str(_VISIBILITY_TIMEOUT),
        }
        return Child("agent", ["darkroom_agent"], environment, self.proxy.ca_bundle.with_name("agent.log"))

    def download(self, url: str) -> httpx.Response:
        """What a presigned URL leads to."""
        return httpx.get(url, verify=ssl.create_default_context(cafile=self.proxy.ca_bundle))


class Customer(Flow):
    """A client of the API, with a queue of its own for notifications, whose policy lets the topic send."""

    def __init__(self, system: System) -> None:
        super().__init__(system.stack)
        queue = NAMES.queue_arn(self.queue.rpartition("/")[2])
        source: policy.Conditions = {"ArnEquals": {"aws:SourceArn": NAMES.topic_arn(NAMES.result_topic)}}
        allowed = policy.allow("AllowTopic", ["sqs:SendMessage"], [queue], service=SNS, conditions=source)
        proxy = system.proxy
        proxy.policies = proxy.policies.changed("resource", queue, policy.document(allowed))

    def submit(self, *, task: str = "text-to-image", content: Mapping[str, Any] | None = None, **fields: Any) -> str:
        """A job that the API takes; its id."""
        settings = {"prompt": "http of the sea", "steps": 1, "width": 64, "height": 64, "seed": 7, **(content or {})}
        request = {"id": uuid.uuid4().hex, "runtime": RUNTIME, "task": task, "content": settings, **fields}
        answer = self.post("v1/jobs", request)
        assert answer.status_code == 202, answer.text
        return str(request["id"])

    def ends(self, *ids: str) -> dict[str, Any]:
        """The notifications that tell how jobs ended, by their ids."""
        found = self.notifications(len(ids), lambda it: it["id"] in ids and it["status"] != "running")
        return {it["id"]: it for it in found}


@contextmanager
def running(folder: Path) -> Iterator[System]:
    """A system without an agent; it leaves nothing behind but logs in the folder."""
    with ExitStack() as cleanup:
        options = Options(logs=folder, seconds_per_step=0.02, without_agent=frozenset({RUNTIME}))
        stack = cleanup.enter_context(Stack(FILES, options))
        s3 = stack.aws_client("s3")
        for bucket in INPUT_BUCKETS:
            s3.create_bucket(Bucket=bucket)
        principals = {access_key(role): role for role in POLICIES.identity}
        session = boto3.Session("local", "local", region_name=NAMES.region)
        proxy = cleanup.enter_context(PolicyProxy(stack.aws_url, POLICIES, principals, session, folder))
        system = System(stack, proxy, session)
        stack.gateway.function.stop()  # it reaches the emulator past the proxy
        stack.gateway = stack.serve_api(system.environment(API_ROLE))
        yield system
