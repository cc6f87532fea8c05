"""What the stand-in of the kubelet has to do with the API server, and nothing else does."""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import urllib3
from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError, NotFoundError
from kubernetes.watch import Watch

from tests.e2e.kubelet.errors import NotStarted

Object: TypeAlias = dict[str, Any]

_CONNECTIONS = 64
#: How soon an API server that is busy or away is asked again, and for how long.
_RETRY_SECONDS, _INSIST_SECONDS = 0.5, 60.0
#: How long a watch lasts before it begins anew.
_WATCH_SECONDS = 300
_PATCH = "application/strategic-merge-patch+json"


class Objects:
    """Pods, nodes and what pods refer to."""

    def __init__(self, kubeconfig: Path) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        configuration.connection_pool_maxsize = _CONNECTIONS
        self._client = client.ApiClient(configuration)
        self._core = client.CoreV1Api(self._client)
        dynamic = DynamicClient(self._client, cache_file=str(kubeconfig.with_suffix(".kubelet-discovery")))
        self._resources = {
            kind: dynamic.resources.get(api_version="v1", kind=kind) for kind in ("Pod", "Node", "ConfigMap", "Secret")
        }
        self._watches: list[Watch] = []

    def close(self) -> None:
        """End all watches."""
        for watch in self._watches:
            watch.stop()
        self._client.close()

    def follow(self, kind: str, label_selector: str | None = None) -> Iterator[list[Object] | tuple[str, Object]]:
        """All objects of a kind, then every event of one; all of them again after a break. It ends never."""
        resource = self._resources[kind]
        watch = Watch()
        self._watches.append(watch)
        while True:
            with suppress(urllib3.exceptions.HTTPError, client.ApiException):  # the connection ended: begin anew
                listed = resource.get(label_selector=label_selector).to_dict()
                yield listed["items"]
                for event in resource.watch(
                    label_selector=label_selector,
                    resource_version=listed["metadata"]["resourceVersion"],
                    timeout=_WATCH_SECONDS,
                    watcher=watch,
                ):
                    yield event["type"], event["raw_object"]
            time.sleep(_RETRY_SECONDS)

    def report(self, pod: Object, status: Object) -> None:
        """Write a pod's status, if there still is that pod."""
        metadata = pod["metadata"]
        whole: Object = {key: [*status[key], {"$patch": "replace"}] for key in ("podIPs", "hostIPs") if key in status}
        body = {"metadata": {"uid": metadata["uid"]}, "status": {**status, **whole}}
        place = {"name": metadata["name"], "namespace": metadata["namespace"]}
        _insist(lambda: self._resources["Pod"].status.patch(body=body, content_type=_PATCH, **place))

    def remove_pod(self, pod: Object) -> None:
        """Take a pod away that has ended, if there still is that pod."""
        metadata = pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        place = {"name": metadata["name"], "namespace": metadata["namespace"]}
        _insist(lambda: self._resources["Pod"].delete(body=body, **place))

    def remove_node(self, name: str) -> None:
        """Take a node away whose machine is gone."""
        _insist(lambda: self._resources["Node"].delete(name=name))

    def remove_taint(self, node: Object, key: str) -> None:
        """Take a taint off a node; if the node was changed meanwhile, there will be another event of it."""
        metadata, taints = node["metadata"], node["spec"]["taints"]
        left = [taint for taint in taints if taint["key"] != key]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"taints": left}}
        _insist(lambda: self._resources["Node"].patch(body=body, name=metadata["name"], content_type=_PATCH))

    def files(self, kind: str, namespace: str, name: str, *, optional: bool) -> dict[str, bytes]:
        """The keys of a ConfigMap or Secret; raises ``NotStarted`` when it is not there and not optional."""
        try:
            found = self._resources[kind].get(name=name, namespace=namespace).to_dict()
        except NotFoundError:
            if optional:
                return {}
            raise NotStarted("CreateContainerConfigError", f'{kind.lower()} "{name}" not found') from None
        encoded = found.get("data" if kind == "Secret" else "binaryData") or {}
        plain = (found.get("data") or {}) if kind == "ConfigMap" else {}
        decoded = {key: base64.b64decode(value) for key, value in encoded.items()}
        return decoded | {key: value.encode() for key, value in plain.items()}

    def token(self, pod: Object, audience: str | None, seconds: int) -> bytes:
        """A token of the pod's service account."""
        metadata = pod["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec: Any = {"audiences": [audience] if audience else [], "expirationSeconds": seconds, "boundObjectRef": bound}
        account = pod["spec"].get("serviceAccountName", "default")
        try:
            answer: Any = self._core.create_namespaced_service_account_token(
                account, metadata["namespace"], client.AuthenticationV1TokenRequest(spec=spec)
            )
        except client.ApiException as error:
            raise NotStarted("ContainerCreating", f"there is no token for {account}: {error.reason}") from None
        return str(answer.status.token).encode()


def _insist(write: Callable[[], object]) -> None:
    """Write, again and again while the API server is busy or away; what is gone or was changed is left alone."""
    give_up = time.monotonic() + _INSIST_SECONDS
    while True:
        try:
            write()
        except (NotFoundError, ConflictError):
            return
        except DynamicApiError as error:
            if (error.status < 500 and error.status != 429) or time.monotonic() > give_up:
                raise
        except urllib3.exceptions.HTTPError:
            if time.monotonic() > give_up:
                raise
        else:
            return
        time.sleep(_RETRY_SECONDS)
