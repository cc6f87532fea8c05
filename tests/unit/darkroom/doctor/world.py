"""A cluster as its compositions make it, in an emulated AWS, with an API that answers as it is told to."""

import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from darkroom.cluster_files import ClusterFiles
from darkroom.doctor.chain import Examined, examine
from darkroom.doctor.context import Aws, Context
from darkroom.local import kinds
from darkroom.local.composites import composites
from darkroom.local.stack import reconcile
from darkroom_contract.cluster import Cluster, Images, Tenant
from darkroom_contract.job import Job
from darkroom_contract.names import Bucket, api_key_prefix
from darkroom_contract.records import RequestRecord
from darkroom_contract.runtime import Runtime
from darkroom_contract.store import JobStore
from darkroom_contract.types import Engine, utcnow
from darkroom_contract.v1 import SubmitRequest
from darkroom_function.gateway import api_key_secret

REGION = "eu-west-1"
CHECKPOINT = "sdxl/base.safetensors"
NODES = "custom_nodes/video"


@dataclass
class FakeApi:
    """What answers at the API's URL: one status for all, and the keys that it was asked with."""

    url: str
    status: int = 404
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def answering() -> Iterator[FakeApi]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.keys.append(self.headers.get("x-api-key"))
            self.send_response(api.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = FakeApi(f"http://127.0.0.1:{server.server_address[1]}/prod")
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()


RUNTIMES = {
    "comfy": Runtime(engine=Engine.COMFYUI, custom_nodes=NODES),
    "sdxl": Runtime(engine=Engine.SDWEBUI, checkpoint=CHECKPOINT),
}


class Emulated:
    """The emulated AWS: the clients that bring a cluster about, and those that the doctor asks by."""

    def __init__(self, endpoint_url: str) -> None:
        session = boto3.Session("test", "test", region_name=REGION)
        self.secrets: dict[tuple[str, str], str] = {}
        self.kinds = kinds.Aws(session, endpoint_url, self.secrets)
        self.aws = Aws(session, endpoint_url)
        #: What a test made AWS answer is answered no more.
        self.cleanup = ExitStack()


class World:
    """The cluster; each has names of its own, since the emulator's data is the whole process's."""

    def __init__(self, emulated: Emulated, api: FakeApi, runtimes: Collection[str] = ("sdxl",), **cluster: Any) -> None:
        name = f"c{uuid.uuid4().hex[:8]}"
        tenants = (Tenant(name="default", daily_quota=100), Tenant(name="studio"))
        described = {"name": name, "account": "123456789012", "region": REGION, "eks_name": name, "tenants": tenants}
        self.files = ClusterFiles(
            Cluster.model_validate({**described, **cluster}, by_name=True),
            {name: RUNTIMES[name] for name in sorted(runtimes)},
        )
        self.names = self.files.cluster.names
        self.api = api
        self.api_key = f"{api_key_prefix('default')}{name}secret"
        secrets = {
            (api_key_secret("default"), "value"): self.api_key,
            (api_key_secret("studio"), "value"): f"{api_key_prefix('studio')}{name}secret",
        }
        self._emulated = emulated
        emulated.secrets.update(secrets)
        images = Images(api=f"registry.example/api@sha256:{0:064}")
        self.observed = reconcile(list(composites(self.files, images)), emulated.kinds)
        self.aws = emulated.aws
        self.models = self.names.bucket(Bucket.MODELS)
        for key in (f"checkpoints/{CHECKPOINT}", f"{NODES}/nodes.py"):
            self.client("s3").put_object(Bucket=self.models, Key=key, Body=b"a model")
        self.store = JobStore(self.client("s3"), self.names.bucket(Bucket.JOBS))

    def client(self, service: str) -> Any:
        return self._emulated.kinds.client(service)

    def context(self, runtime: str = "sdxl", **changed: Any) -> Context:
        """As the command makes it for an EKS cluster that cannot be reached."""
        given = {"no_kubernetes": "the cluster is away", "url": self.api.url, "api_key": self.api_key, **changed}
        return Context(self.files, Path("clusters/main"), runtime, self.aws, **given)

    def examine(self, *runtimes: str, **changed: Any) -> dict[str, Examined]:
        """What each link says, by its name; those of the last runtime where several are asked for."""
        contexts = [self.context(runtime, **changed) for runtime in runtimes or ("sdxl",)]
        return {each.name: each for each in examine(contexts)}

    def only(self, kind: str, key: str = "") -> dict[str, Any]:
        """The one resource of a kind whose name has the key in it."""
        (found,) = (each for each in self.observed if each["kind"] == kind and key in each["metadata"]["name"])
        return found

    def aws_id(self, kind: str, key: str = "") -> str:
        name: str = self.only(kind, key)["metadata"]["annotations"]["crossplane.io/external-name"]
        return name

    def queue_url(self, name: str) -> str:
        url: str = self.client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def subscription(self, topic: str, queue: str) -> str:
        found = self.client("sns").list_subscriptions_by_topic(TopicArn=self.names.topic_arn(topic))["Subscriptions"]
        endpoint = self.names.queue_arn(queue)
        arn: str = next(each["SubscriptionArn"] for each in found if each["Endpoint"] == endpoint)
        return arn

    def answer_of_aws(self, service: str, operation: str, status: int, parsed: dict[str, Any]) -> None:
        """Let AWS answer what the emulator never does."""
        response = AWSResponse("", status, HTTPHeaders(), None)
        parsed = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}, **parsed}
        meta = self.aws.client(service).meta
        event = f"before-call.{meta.service_model.service_id.hyphenize()}.{operation}"

        def answer(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
            return response, parsed

        meta.events.register(event, answer)
        self._emulated.cleanup.callback(meta.events.unregister, event, answer)

    def refuse(self, service: str, operation: str, code: str) -> None:
        error = {"Error": {"Code": code, "Message": f"no {operation}"}}
        self.answer_of_aws(service, operation, 403 if "Denied" in code else 429, error)

    def submit(self, job_id: str, tenant: str = "default") -> Job:
        request = SubmitRequest.model_validate(
            {"id": job_id, "runtime": "sdxl", "content": {"prompt": "a secret wish"}}
        )
        job = request.to_job(tenant=tenant)
        self.store.create_request(RequestRecord(job=job, fingerprint="f", nonce="n", recorded_at=utcnow()))
        return job


Break = Callable[[World], object]
