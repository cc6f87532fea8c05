"""The local stack: emulator, composed resources, gateway, and an agent with its runtime for each runtime folder."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

import boto3
import httpx

from darkroom.cluster_files import ClusterFiles
from darkroom.local import kinds
from darkroom.local.child import STOP_SECONDS
from darkroom.local.composites import composites
from darkroom.local.gateway import Gateway, UsagePlan
from darkroom.local.kubelet import Restarts, free_port, is_distrusted, wait_until_trusted
from darkroom.local.lambda_service import FunctionConfiguration, LambdaService
from darkroom.local.processes import Child, ProcessFailed, stop_all
from darkroom.local.reconcile import Reconciler
from darkroom.trouble import Trouble
from darkroom_contract import names
from darkroom_contract.cluster import Images
from darkroom_contract.names import Bucket
from darkroom_contract.types import Engine
from darkroom_function.compositions import compose
from darkroom_function.gateway import api_key_secret

logger = logging.getLogger(__name__)

_HANDLER = "darkroom_api.handler.handler"
#: How many invocations may run at once when the function reserves no concurrency: an account's, by default.
_ACCOUNT_CONCURRENCY = 1000
#: How often the agents are asked whether their engines have to be restarted, as a liveness probe does.
_LIVENESS_SECONDS = 10.0
#: What an agent that is told to stop does after its last job: give messages back, and end.
_AGENT_LAST_SECONDS = 5
#: How each engine answers that it is one.
_READY_PATHS = {Engine.SDWEBUI: "/sdapi/v1/options", Engine.COMFYUI: "/system_stats"}


class EngineNotFound(Trouble):
    """No engine answers at the URL that was given."""


#: Brings composites into being in an emulated AWS. Its answer is what is observed of their managed resources: the
#: objects, each with its ``spec.forProvider`` as ``resolved``, where every reference is followed.
ControlPlane: TypeAlias = Callable[[Sequence[dict[str, Any]], kinds.Aws], list[dict[str, Any]]]


def reconcile(composites: Sequence[dict[str, Any]], aws: kinds.Aws) -> list[dict[str, Any]]:
    """The control plane of a local stack: no Kubernetes, the same compositions."""
    reconciler = Reconciler(aws)
    observed: list[dict[str, Any]] = []
    for item in composites:
        name = f"{item['kind']} {item['metadata']['name']}"
        reconciler.reconcile(name, partial(compose, item["kind"], item["spec"]))
        observed += reconciler.observed(name).values()
    return observed


@dataclass(frozen=True)
class Options:
    """How a local stack differs from another."""

    #: Where logs are written.
    logs: Path
    #: A real web UI or ComfyUI, to stand behind the first runtime whose engine it answers as.
    runtime_url: str | None = None
    #: How long the demo runtime takes for a step, in seconds.
    seconds_per_step: float = 0.02
    #: Runtimes of the cluster that get no agent: a test runs its own.
    without_agent: frozenset[str] = frozenset()
    control_plane: ControlPlane = reconcile
    #: What runs the API's function.
    lambda_service: type[LambdaService] = LambdaService
    #: An emulator that runs already; none: the stack starts one, and stops it.
    emulator: Child | None = None


class Stack:
    """A local stack of a cluster: it runs inside a ``with`` statement, and leaves nothing behind but its logs."""

    def __init__(self, files: ClusterFiles, options: Options) -> None:
        self.files = files
        self.names = files.cluster.names
        self._options = options
        self._cleanup = ExitStack()
        #: The API keys by tenant.
        self.api_keys = {
            tenant.name: names.api_key_prefix(tenant.name) + secrets.token_hex(20) for tenant in files.cluster.tenants
        }
        #: Where each runtime's engine answers.
        self.runtime_urls: dict[str, str] = {}
        #: The processes, by runtime. One that has a real engine is none of ours.
        self.runtimes: dict[str, Child] = {}
        self.agents: dict[str, Child] = {}
        #: The ports of the agents' health and metrics, by runtime: the same after a restart.
        self._health_ports: dict[str, int] = {}
        self._restarts = Restarts()
        self._next_liveness = 0.0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._cleanup.close()

    @property
    def url(self) -> str:
        """Where the API is, with its stage."""
        return self.gateway.url

    @property
    def api_key(self) -> str:
        """The first tenant's API key."""
        return next(iter(self.api_keys.values()))

    @property
    def aws_url(self) -> str:
        """Where the emulator of AWS is."""
        return self.emulator.url()

    def aws_client(self, service: str) -> Any:
        """A client of the emulator's."""
        return self._aws.client(service)

    def bucket(self, purpose: Bucket) -> str:
        """The name of one of the buckets."""
        return self.names.bucket(purpose)

    def queue_url(self, queue: str) -> str:
        """The URL of a queue by its name, at the emulator."""
        url: str = self.aws_client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]
        return url

    def health_url(self, runtime: str) -> str | None:
        """Where a runtime's agent answers /healthz, /readyz, /livez/engine and /metrics; None without an agent."""
        port = self._health_ports.get(runtime)
        return f"http://127.0.0.1:{port}" if port else None

    def agent_environment(self, runtime: str) -> dict[str, str]:
        """The variables of a runtime's agent, as its pod would have them."""
        described = self.files.runtimes[runtime]
        return {
            **self.aws_environment,
            "QUEUE_URL": self.queue_url(self.names.runtime_queue(runtime)),
            "DEAD_LETTER_QUEUE_URL": self.queue_url(self.names.dead_letter_queue(runtime)),
            "RESULT_TOPIC_ARN": self.names.topic_arn(self.names.result_topic),
            "OUTPUT_BUCKET": self.bucket(Bucket.OUTPUTS),
            "JOBS_BUCKET": self.bucket(Bucket.JOBS),
            "ENGINE": described.engine,
            "RUNTIME_NAME": runtime,
            "RUNTIME_URL": self.runtime_urls[runtime],
            "HEALTH_PORT": str(self._health_ports.get(runtime, 0)),
            "RECEIVE_WAIT_SECONDS": "1",  # so that a stack stops soon
            "SHUTDOWN_BUDGET_SECONDS": str(STOP_SECONDS - _AGENT_LAST_SECONDS),
            "JOB_TIMEOUT_SECONDS": str(described.job_timeout_seconds),
            "MAX_STARTS": str(described.max_starts),
            "CHECKPOINT": described.checkpoint or "",
            "DYNAMIC_CHECKPOINT": str(described.dynamic_checkpoint).lower(),
            "WARMUP": json.dumps(described.warmup) if described.warmup else "",
            "INPUT_BUCKETS": ",".join(self.files.cluster.input_buckets),
            "INPUT_HOSTS": ",".join(described.input_hosts),
            "TENANTS": ",".join(self.api_keys),
            "ALLOWED_NODES": ",".join(described.allowed_nodes),
            "DENIED_NODES": ",".join(described.denied_nodes),
        }

    def check(self) -> None:
        """See to the children that ended; made to be called about once a second.

        Runtimes and agents are started again, as the kubelet would, and so is a runtime that its agent trusts no more.
        Raises ``ProcessFailed`` when that is no use, and when the emulator ended: its data is gone.
        """
        if not self.emulator.running:
            raise ProcessFailed(f"the AWS emulator ended, and its data is gone:\n{self.emulator.log_tail()}")
        for name, child in self.runtimes.items():
            if self._restarts.has_to_restart(child):
                self.runtimes[name] = self._start_runtime(name, urlsplit(self.runtime_urls[name]).port or 0)
        for name, child in self.agents.items():
            if self._restarts.has_to_restart(child):
                self.agents[name] = self._start_agent(name)
        if time.monotonic() >= self._next_liveness:
            self._next_liveness = time.monotonic() + _LIVENESS_SECONDS
            self._stop_distrusted_runtimes()

    def _stop_distrusted_runtimes(self) -> None:
        """The next ``check`` starts them again, once the agent has seen them away."""
        for name, child in self.runtimes.items():
            health_url = self.health_url(name)
            if health_url and is_distrusted(health_url):
                logger.warning("%s is not trusted by its agent any more and is stopped", child.name)
                child.stop()
                wait_until_trusted(health_url)

    def _start(self) -> None:
        self._options.logs.mkdir(parents=True, exist_ok=True)
        cluster = self.files.cluster
        self.emulator = self._options.emulator or self._start_emulator()
        self._start_runtimes()
        self.aws_environment = {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": cluster.region,
            "AWS_DEFAULT_REGION": cluster.region,
        }
        session = boto3.Session(
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106
            region_name=cluster.region,
        )
        key_secrets = {(api_key_secret(tenant), "value"): key for tenant, key in self.api_keys.items()}
        self._aws = kinds.Aws(session, self.aws_url, key_secrets)
        self._resources = self._declare()
        self.gateway = self.serve_api()
        self.runtime_urls |= {name: child.url() for name, child in self.runtimes.items()}
        self._cleanup.callback(lambda: stop_all(self.agents.values()))
        for name in sorted(self.files.runtimes.keys() - self._options.without_agent):
            self._health_ports[name] = free_port()
            self.agents[name] = self._start_agent(name)

    def _start_emulator(self) -> Child:
        account = {"MOTO_ACCOUNT_ID": self.files.cluster.account}
        emulator = self._spawn("emulator", ["darkroom.local.emulator"], account)
        self._cleanup.callback(emulator.stop)
        return emulator

    def _spawn(self, name: str, module: list[str], env: dict[str, str]) -> Child:
        return Child(name, module, env, self._options.logs / f"{name}.log")

    def _start_agent(self, name: str) -> Child:
        return self._spawn(f"agent-{name}", ["darkroom_agent"], self.agent_environment(name))

    def _start_runtimes(self) -> None:
        """A demo runtime for each runtime that no real engine stands behind."""
        real_engine = engine_at(self._options.runtime_url) if self._options.runtime_url else None
        self._cleanup.callback(lambda: stop_all(self.runtimes.values()))
        for name, runtime in self.files.runtimes.items():
            if runtime.engine is real_engine and self._options.runtime_url:
                self.runtime_urls[name], real_engine = self._options.runtime_url, None
            else:
                self.runtimes[name] = self._start_runtime(name)

    def _start_runtime(self, name: str, port: int = 0) -> Child:
        arguments = ["--engine", self.files.runtimes[name].engine, "--port", str(port)]
        arguments += ["--seconds-per-step", str(self._options.seconds_per_step)]
        return self._spawn(f"runtime-{name}", ["darkroom_demo", *arguments], {})

    def _declare(self) -> list[dict[str, Any]]:
        """Bring every composite into being; their managed resources as observed."""
        images = Images(api=f"local/darkroom-api@{source_digest('darkroom_api')}")
        return self._options.control_plane(list(composites(self.files, images)), self._aws)

    def serve_api(self, variables: Mapping[str, str] | None = None) -> Gateway:
        """The composed API, served; ``variables`` are further ones for its function."""
        function = self._start_function(variables or {})
        api = _only(self._resources, "RestAPI")["resolved"]
        stage = _only(self._resources, "Stage")["resolved"]["stageName"]
        gateway = Gateway(json.loads(api["body"]), stage, self._usage_plans(), function)
        self._cleanup.callback(gateway.stop)
        return gateway

    def _start_function(self, variables: Mapping[str, str]) -> LambdaService:
        spec = _only(self._resources, "Function")["resolved"]
        configuration = FunctionConfiguration(
            name=self.names.api,
            arn=self.names.api_function_arn,
            timeout=spec["timeout"],
            memory=spec["memorySize"],
            concurrency=spec.get("reservedConcurrentExecutions", _ACCOUNT_CONCURRENCY),
            variables={**self.aws_environment, **spec["environment"]["variables"], **variables},
        )
        function = self._options.lambda_service(configuration, _HANDLER, self._options.logs)
        self._cleanup.callback(function.stop)
        function.start()
        return function

    def _usage_plans(self) -> list[UsagePlan]:
        keys = {item["status"]["atProvider"]["id"]: item["resolved"] for item in _all(self._resources, "APIKey")}
        plans = {item["status"]["atProvider"]["id"]: item["resolved"] for item in _all(self._resources, "UsagePlan")}
        usage = []
        for link in (item["resolved"] for item in _all(self._resources, "UsagePlanKey")):
            secret, plan = keys[link["keyId"]]["valueSecretRef"], plans[link["usagePlanId"]]
            usage.append(
                UsagePlan(
                    key_id=link["keyId"],
                    key_value=self._aws.secrets[secret["name"], secret["key"]],
                    rate_limit=plan["throttleSettings"]["rateLimit"],
                    burst_limit=plan["throttleSettings"]["burstLimit"],
                    quota=plan.get("quotaSettings", {}).get("limit"),
                )
            )
        return usage


def engine_at(url: str) -> Engine:
    """Which engine answers at a URL; raises ``EngineNotFound``."""
    for engine, path in _READY_PATHS.items():
        try:
            if httpx.get(url.rstrip("/") + path, timeout=10).is_success:
                return engine
        except httpx.HTTPError:
            continue
    raise EngineNotFound(f"neither a web UI (started with --api) nor ComfyUI answers at {url}")


def source_digest(package: str) -> str:
    """A digest of a package's files, standing in for its image's: it changes when the code does."""
    digest = hashlib.sha256()
    root = Path(str(resources.files(package)))
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def _all(resources: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [resource for resource in resources if resource["kind"] == kind]


def _only(resources: Iterable[dict[str, Any]], kind: str) -> dict[str, Any]:
    (resource,) = _all(resources, kind)
    return resource
