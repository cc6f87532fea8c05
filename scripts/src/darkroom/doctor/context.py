"""What the links look at: the cluster's files, its AWS, its Kubernetes and its API."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from darkroom.cluster_files import ClusterFiles
from darkroom.kubectl import Kubectl, Object
from darkroom_contract.names import Bucket, Names, api_key_prefix
from darkroom_contract.runtime import Runtime
from darkroom_contract.store import JobStore

if TYPE_CHECKING:
    from types_boto3_apigateway import APIGatewayClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_s3 import S3Client
    from types_boto3_sns import SNSClient
    from types_boto3_sqs import SQSClient

#: The namespace of the runtimes' pods.
NAMESPACE = "darkroom"
#: A link that AWS does not answer for is unknown, soon.
_CONFIG = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "max_attempts": 3})
#: What is between two looks at a thing that moves, in seconds.
PAUSE_SECONDS = 3.0


class NoKubernetes(Exception):  # noqa: N818 - it says what is the matter
    """The EKS cluster cannot be asked, and the message says why."""


@dataclass(frozen=True)
class Aws:
    """The cluster's AWS; ``endpoint_url`` is where an emulator of it is."""

    session: boto3.Session
    endpoint_url: str | None = None
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """A client of a service, the same one each time. It gives up soon."""
        if service not in self._clients:
            made = self.session.client(service, endpoint_url=self.endpoint_url, config=_CONFIG)  # type: ignore[call-overload]
            self._clients[service] = made
        return self._clients[service]

    @property
    def is_emulated(self) -> bool:
        """Whether it is an emulator, which serves no API of its own."""
        return "amazonaws.com" not in self.client("sqs").meta.endpoint_url


@dataclass(frozen=True)
class Context:
    """What one look at one runtime's chain has to go by."""

    files: ClusterFiles
    #: The cluster's folder, for commands that are shown.
    folder: Path
    runtime: str
    aws: Aws
    #: None: there is none, or it cannot be asked; ``no_kubernetes`` says why.
    kubernetes: Kubectl | None = None
    no_kubernetes: str = ""
    #: The API's URL with its stage, if it is known beforehand.
    url: str | None = None
    #: Never shown.
    api_key: str | None = None
    #: Whether it is the local stack, which has no Kubernetes, and demo runtimes for engines.
    is_local: bool = False

    @property
    def names(self) -> Names:
        """The cluster's names in AWS."""
        return self.files.cluster.names

    @property
    def description(self) -> Runtime:
        """The runtime's file."""
        return self.files.runtimes[self.runtime]

    @property
    def tenant(self) -> str | None:
        """Whose the API key is, by how it begins."""
        key = self.api_key or ""
        tenants = (each.name for each in self.files.cluster.tenants)
        return next((tenant for tenant in tenants if key.startswith(api_key_prefix(tenant))), None)

    @property
    def apigateway(self) -> APIGatewayClient:
        """API Gateway."""
        client: APIGatewayClient = self.aws.client("apigateway")
        return client

    @property
    def lambda_(self) -> LambdaClient:
        """Lambda."""
        client: LambdaClient = self.aws.client("lambda")
        return client

    @property
    def s3(self) -> S3Client:
        """S3."""
        client: S3Client = self.aws.client("s3")
        return client

    @property
    def sns(self) -> SNSClient:
        """SNS."""
        client: SNSClient = self.aws.client("sns")
        return client

    @property
    def sqs(self) -> SQSClient:
        """SQS."""
        client: SQSClient = self.aws.client("sqs")
        return client

    @cached_property
    def store(self) -> JobStore:
        """The facts of jobs."""
        return JobStore(self.s3, self.names.bucket(Bucket.JOBS))

    @property
    def kubectl(self) -> Kubectl:
        """The cluster's Kubernetes; raises ``NoKubernetes``."""
        if self.kubernetes is None:
            raise NoKubernetes(self.no_kubernetes)
        return self.kubernetes

    @cached_property
    def rest_api_id(self) -> str | None:
        """The id that AWS gave the REST API; None while there is none."""
        pages = self.apigateway.get_paginator("get_rest_apis").paginate(PaginationConfig={"PageSize": 500})
        found = (api["id"] for page in pages for api in page["items"] if api["name"] == self.names.api)
        return next(found, None)

    @cached_property
    def pods(self) -> list[Object]:
        """The runtime's pods; raises ``NoKubernetes``."""
        selector = f"app.kubernetes.io/name=sd-runtime,app.kubernetes.io/instance={self.runtime}"
        return self.kubectl.all("pods", NAMESPACE, selector)

    @cached_property
    def events(self) -> list[Object]:
        """What is told of pods and nodes, the newest last; raises ``NoKubernetes``."""
        return sorted(self.kubectl.all("events"), key=_seen_at)

    def said_of(self, kind: str, name: str, *reasons: str) -> list[str]:
        """The messages of an object's events that have one of these reasons, the newest first."""
        return [
            str(event.get("message", "")).strip()
            for event in reversed(self.events)
            if (event["involvedObject"].get("kind"), event["involvedObject"].get("name")) == (kind, name)
            and event.get("reason") in reasons
        ]

    def queue_attributes(self, queue: str) -> dict[str, str]:
        """All that SQS says of a queue; raises botocore's errors."""
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return {str(name): value for name, value in answer["Attributes"].items()}

    def command(self, words: str) -> str:
        """A darkroom command for this cluster."""
        return f"darkroom {words} --cluster {self.folder}"

    @property
    def runtime_file(self) -> str:
        """The runtime's file, as it is told."""
        return f"{self.folder}/runtimes/{self.runtime}/runtime.yaml"


def _seen_at(event: Object) -> str:
    """When an event was seen last: what kubelets and newer controllers call it."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
