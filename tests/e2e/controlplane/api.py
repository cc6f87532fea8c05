"""Objects of a Kubernetes cluster, by their manifests. It talks to the API server alone."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from kubernetes import config
from kubernetes.client import ApiException
from kubernetes.dynamic import DynamicClient, Resource
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError

Object: TypeAlias = dict[str, Any]

_FIELD_MANAGER = "darkroom-tests"
#: How long an API that was just declared may take to be served.
_DISCOVERY_SECONDS = 30.0


class Refused(Exception):  # noqa: N818 - it says what happened
    """The API server refused an object; the message is the server's."""


class Api:
    """A cluster's API server, as an administrator or a test sees it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        client = config.new_client_from_config(str(kubeconfig))
        self._client = DynamicClient(client, cache_file=str(kubeconfig.with_suffix(".discovery")))

    def apply(self, *manifests: Object) -> list[Object]:
        """Apply objects server-side, as Argo CD does; raises ``Refused``."""
        return [self._apply(manifest) for manifest in manifests]

    def check(self, manifest: Object) -> None:
        """See whether the API server would take an object, and knows all of its fields; raises ``Refused``."""
        self._apply(manifest, dry_run="All", query_params=[("fieldValidation", "Strict")])

    def apply_files(self, paths: Iterable[Path]) -> list[Object]:
        """Apply the objects of YAML files, in order; raises ``Refused``."""
        return self.apply(
            *(item for path in paths for item in yaml.load_all(path.read_text(), yaml.CSafeLoader) if item)
        )

    def declare(self, paths: Iterable[Path]) -> None:
        """Declare the kinds of CRD files, and wait until they are served; raises ``Refused``."""
        for crd in self.apply_files(paths):
            self.wait(crd["apiVersion"], crd["kind"], crd["metadata"]["name"], None, is_true("Established"))

    def _apply(self, manifest: Object, **options: Any) -> Object:
        metadata = manifest["metadata"]
        try:
            applied = self._resource(manifest["apiVersion"], manifest["kind"]).server_side_apply(
                body=manifest,
                name=metadata["name"],
                namespace=metadata.get("namespace"),
                field_manager=_FIELD_MANAGER,
                force_conflicts=True,
                **options,
            )
        except ApiException as error:
            raise Refused(f"{manifest['kind']} {metadata['name']}: {error.body}") from None
        return _plain(applied)

    def find(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """An object, or None."""
        try:
            return _plain(self._resource(api_version, kind).get(name=name, namespace=namespace))
        except NotFoundError:
            return None

    def list(self, api_version: str, kind: str, namespace: str | None = None) -> list[Object]:
        """The objects of a kind."""
        found: list[Object] = _plain(self._resource(api_version, kind).get(namespace=namespace))["items"]
        return found

    def patch(self, api_version: str, kind: str, name: str, namespace: str | None, patch: Object) -> Object:
        """Merge a patch into an object, its status included; raises ``Refused``."""
        resource = self._resource(api_version, kind)
        merge = {"name": name, "namespace": namespace, "content_type": "application/merge-patch+json"}
        try:
            if "status" in patch:
                return _plain(resource.status.patch(body=patch, **merge))
            return _plain(resource.patch(body=patch, **merge))
        except ApiException as error:
            raise Refused(f"{kind} {name}: {error.body}") from None

    def delete(
        self, api_version: str, kind: str, name: str, namespace: str | None = None, grace_seconds: int | None = None
    ) -> None:
        """Ask for an object's deletion, and of what belongs to it in the background; raises ``Refused``.

        A pod with a grace of 0 is gone at once, whatever runs in it.
        """
        options: Object = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self._resource(api_version, kind).delete(name=name, namespace=namespace, body=options)
        except NotFoundError:
            return
        except ApiException as error:
            raise Refused(f"{kind} {name}: {error.body}") from None

    def wait(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str | None,
        until: Callable[[Object], bool],
        seconds: float = 60,
    ) -> Object:
        """Wait until an object is as it should be ({} while there is none); raises ``TimeoutError`` with its status."""
        resource = self._resource(api_version, kind)
        deadline = time.monotonic() + seconds
        field_selector = f"metadata.name={name}"
        while True:
            listed = _plain(resource.get(namespace=namespace, field_selector=field_selector))
            current: Object = next(iter(listed["items"]), {})
            if until(current):
                return current
            left = int(deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"{kind} {name} is not as it should be after {seconds:.0f} s: {_state(current)}")
            for event in resource.watch(
                namespace=namespace,
                field_selector=field_selector,
                resource_version=listed["metadata"]["resourceVersion"],
                timeout=left,
            ):
                current = {} if event["type"] == "DELETED" else event["raw_object"]
                if until(current):
                    return current

    def _resource(self, api_version: str, kind: str) -> Resource:
        deadline = time.monotonic() + _DISCOVERY_SECONDS
        while True:
            try:
                resource: Resource = self._client.resources.get(api_version=api_version, kind=kind)
                return resource
            except ResourceNotFoundError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                self._client.resources.invalidate_cache()


def condition(item: Object, kind: str) -> str | None:
    """An object's condition: ``True``, ``False``, ``Unknown``, or None."""
    conditions = item.get("status", {}).get("conditions") or ()  # they are null in a CRD that is new
    return next((entry["status"] for entry in conditions if entry["type"] == kind), None)


def is_true(*kinds: str) -> Callable[[Object], bool]:
    """Whether an object has all these conditions."""
    return lambda item: all(condition(item, kind) == "True" for kind in kinds)


def is_gone(item: Object) -> bool:
    """Whether there is no such object."""
    return not item


def _state(item: Object) -> Any:
    return item.get("status", "there is none") if item else "there is none"


def _plain(instance: Any) -> Object:
    plain: Object = instance.to_dict()
    return plain
