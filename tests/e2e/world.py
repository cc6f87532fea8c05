"""What the tests look at: a cluster, an emulated AWS, and the provider between them."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml

from darkroom.local import kinds
from darkroom.local.processes import Child
from darkroom_contract.names import api_key_prefix
from darkroom_function.apis import API_VERSION
from darkroom_function.gateway import api_key_secret
from darkroom_function.kinds import Kind
from tests.compositions import specs
from tests.e2e.controlplane.api import Object, condition, is_gone, is_true
from tests.e2e.controlplane.cluster import APIS, Cluster
from tests.e2e.provider import Provider

#: Far above what any composite takes: reached only when it never becomes ready.
READY_SECONDS = 180.0
#: The cluster of the examples.
ACCOUNT, REGION = "111122223333", "eu-west-1"


@dataclass(frozen=True)
class World:
    """A cluster and the AWS that its provider works on."""

    cluster: Cluster
    aws: kinds.Aws
    #: The services that the cluster's provider works on; None: all.
    services: frozenset[str] | None = None
    #: The stand-in, where the cluster has no provider of its own.
    provider: Provider | None = None

    def client(self, service: str) -> Any:
        """A client of the emulated AWS."""
        return self.aws.client(service)

    def namespace(self, name: str, secrets: dict[str, str] | None = None) -> str:
        """Make a namespace, with the tenants' API keys by the names of their Secrets."""
        api = self.cluster.api
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for secret, value in (secrets or {}).items():
            metadata = {"name": secret, "namespace": name}
            api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"value": value}})
        return name

    def apply(self, *composites: Object) -> None:
        """Apply composites, as Argo CD does."""
        self.cluster.api.apply(*composites)

    def wait(self, composite: Object, seconds: float = READY_SECONDS, **conditions: str) -> Object:
        """Wait until a composite has these conditions, or works: with all that its provider can make of it."""
        if self.services and not conditions:
            self.eventually(lambda: self._is_made(composite))
            return self.find(composite)
        wanted = conditions or {"Synced": "True", "Ready": "True"}
        return self.cluster.api.wait(
            *_place(composite),
            lambda item: (
                bool(item)
                and condition(item, "Synced") is not None
                and all(condition(item, kind) == status for kind, status in wanted.items())
            ),
            seconds,
        )

    def find(self, composite: Object) -> Object:
        """A composite as it is."""
        found = self.cluster.api.find(*_place(composite))
        assert found, f"there is no {composite['kind']} {composite['metadata']['name']}"
        return found

    def recompose(self, composite: Object) -> None:
        """Have Crossplane compose something twice more, and wait until it has applied what came out."""
        place = _place(composite)
        for policy in ("Manual", "Automatic"):  # any change of the spec makes a new generation
            patch = {"spec": {"crossplane": {"compositionUpdatePolicy": policy}}}
            wanted = self.cluster.api.patch(*place, patch)["metadata"]["generation"]
            self.cluster.api.wait(*place, lambda item, wanted=wanted: _composed_generation(item) >= wanted)  # type: ignore[misc]

    def _is_made(self, composite: Object) -> bool:
        made = [item for item in self.managed(composite) if Kind(item["kind"]).service in (self.services or ())]
        return bool(made) and all(is_true("Synced", "Ready")(item) for item in made)

    def versions(self, *composites: Object) -> dict[str, str]:
        """The managed resources of composites by name, each with its version: it changes with every write."""
        return {
            f"{item['kind']} {item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for composite in composites
            for item in self.managed(composite)
        }

    def eventually(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so; raises ``TimeoutError``."""
        deadline = time.monotonic() + READY_SECONDS
        while not holds():
            if self.provider:
                self.provider.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so after {READY_SECONDS:.0f} s")
            time.sleep(0.2)

    def delete(self, composite: Object) -> None:
        """Delete a composite, and wait until it and all that it made in the cluster are gone."""
        made = self.managed(composite)
        self.cluster.api.delete(*_place(composite))
        for item in (composite, *made):
            self.cluster.api.wait(*_place(item), is_gone, READY_SECONDS)

    def managed(self, composite: Object) -> list[Object]:
        """The managed resources of a composite."""
        return [item for kind in Kind for item in self.made(composite, kind.api_version, kind.value)]

    def made(self, composite: Object, api_version: str, kind: str) -> list[Object]:
        """What of a kind a composite has made."""
        name, namespace = composite["metadata"]["name"], composite["metadata"]["namespace"]
        return [
            item
            for item in self.cluster.api.list(api_version, kind, namespace)
            if any(
                owner["kind"] == composite["kind"] and owner["name"] == name
                for owner in item["metadata"].get("ownerReferences", ())
            )
        ]

    def bring_up(self, composites: Sequence[Object], aws: kinds.Aws) -> list[Object]:
        """The control plane of a stack whose composites are in the cluster."""
        namespace = composites[0]["metadata"]["namespace"]
        self.namespace(namespace, {secret: value for (secret, _), value in aws.secrets.items()})
        self.apply(*composites)
        for composite in composites:
            self.wait(composite)
        return self.resolved(composites)

    def resolved(self, composites: Iterable[Object]) -> list[Object]:
        """The managed resources of composites that are ready, as the control plane of a stack tells of them."""
        resources = [item for composite in composites for item in self.managed(composite)]
        return [{**item, "resolved": item["spec"]["forProvider"]} for item in resources]


@contextmanager
def emulated_aws(log: Path, host: str = "127.0.0.1") -> Iterator[Child]:
    """The emulator of AWS as a process, in the tests' account; ``host`` is the address that it listens on."""
    # With AWS's own policies, to be attached to the nodes' role.
    environment = {"MOTO_ACCOUNT_ID": ACCOUNT, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    child = Child("emulator", ["darkroom.local.emulator", f"--host={host}"], environment, log)
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def provided(cluster: Cluster, emulator: Child) -> Iterator[World]:
    """A cluster with a provider that works on an emulated AWS."""
    aws = aws_at(emulator.url())
    with Provider(cluster.api.kubeconfig, aws) as provider:
        yield World(cluster, aws, provider=provider)


def aws_at(url: str) -> kinds.Aws:
    """An emulated AWS, in the tests' region."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return kinds.Aws(session, url, {})


def api_keys(*tenants: str) -> dict[str, str]:
    """A key for each tenant, by the names of the tenants' Secrets."""
    # No two keys of an account have the same value.
    return {api_key_secret(tenant): api_key_prefix(tenant) + secrets.token_hex(20) for tenant in tenants}


def composite(kind: str, name: str, cluster: str, **fields: Any) -> Object:
    """A composite of a cluster, in the namespace of the cluster's name; what is not said is as in the examples."""
    spec = {**specs.EXAMPLES[kind], **fields}
    spec["cluster"] = {"name": cluster, "account": ACCOUNT, "region": REGION, "eksName": cluster}
    if kind == "ModelRuntime":
        spec["name"] = name
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": cluster},
        "spec": spec,
    }


def changed(item: Object, **fields: Any) -> Object:
    """A composite as people would write it, with other values."""
    metadata = {key: item["metadata"][key] for key in ("name", "namespace")}
    spec = {key: value for key, value in item["spec"].items() if key != "crossplane"}
    return {**item, "metadata": metadata, "spec": {**spec, **fields}, "status": None}


def _place(item: Object) -> tuple[str, str, str, str]:
    """By what the API server knows an object."""
    return item["apiVersion"], item["kind"], item["metadata"]["name"], item["metadata"]["namespace"]


def _composed_generation(composite: Object) -> int:
    conditions = composite.get("status", {}).get("conditions", ())
    return next((entry.get("observedGeneration", 0) for entry in conditions if entry["type"] == "Synced"), 0)


def examples(namespace: str) -> list[Object]:
    """The example of every kind of composite."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(APIS.glob("*/example.yaml"))]
    return [{**item, "metadata": {**item["metadata"], "namespace": namespace}} for item in found]
