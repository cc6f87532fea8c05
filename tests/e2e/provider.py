"""A stand-in for Crossplane's AWS provider: a controller over the table of kinds, for a real API server.

It does what crossplane-runtime's managed reconciler and upjet do, in their words. It talks to the API server, and to
the AWS endpoint that it is given. It serves the kinds that are declared when it starts.
"""

import base64
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import urllib3
from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError, ResourceNotFoundError
from kubernetes.watch import Watch

from darkroom.local import kinds
from darkroom.local.kinds.references import follow_references, referred_value, without_references
from darkroom_function.kinds import Kind
from tests.e2e.managed_object import Key, ManagedObject, Object, condition
from tests.e2e.threads import Threads
from tests.e2e.work_queue import WorkQueue

_PAUSED = "crossplane.io/paused"
_SYNCED = condition("Synced", "True", "ReconcileSuccess")

_WORKERS = 4
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.25, 5.0
#: How long a watch lasts before it begins anew.
_WATCH_SECONDS = 300


class Provider:
    """The controller; it runs in threads, inside a ``with`` statement, which raises what went wrong in them."""

    def __init__(self, kubeconfig: Path, aws: kinds.Aws, *, poll_seconds: float = 10.0) -> None:
        self._aws = aws
        self._poll_seconds = poll_seconds
        configuration = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=configuration)
        configuration.connection_pool_maxsize = 2 * len(Kind)
        self._api = client.ApiClient(configuration)
        self._dynamic = DynamicClient(self._api, cache_file=str(kubeconfig.with_suffix(".provider-discovery")))
        self._secrets = self._dynamic.resources.get(api_version="v1", kind="Secret")
        self._resources = dict(self._served())
        self._queue: WorkQueue[Key] = WorkQueue()
        self._failures: dict[Key, int] = {}
        #: The kind of every object, by its namespace and name: a reference does not say it.
        self._kinds: dict[tuple[str, str], str] = {}
        #: What AWS has named, by the objects' uids: lost when it ends.
        self._names: dict[str, str] = {}
        #: What an object looked like when it was changed last, its status aside.
        self._seen: dict[Key, Any] = {}
        self._threads = Threads("provider")
        self._workers: list[threading.Thread] = []
        self._watches = {kind: Watch() for kind in self._resources}

    def _served(self) -> Any:
        for kind in Kind:
            with suppress(ResourceNotFoundError):
                yield kind.value, self._dynamic.resources.get(api_version=kind.api_version, kind=kind.value)

    def __enter__(self) -> Self:
        for kind in self._resources:
            self._threads.run(f"watch {kind}", self._watch, kind)
        for number in range(_WORKERS):
            self._workers.append(self._threads.run(f"worker {number}", self._work))
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        self.check()

    def stop(self) -> None:
        """Stop working; what is being worked on is finished."""
        self._threads.stopping.set()
        self._queue.close()
        for watch in self._watches.values():
            watch.stop()  # an API server waits long for those who watch before it ends
        for thread in self._workers:
            thread.join()
        self._api.close()

    def begin_anew(self) -> None:
        """Be as after a crash, until everything was looked at once: what was in its memory alone is lost."""
        self._names.clear()
        for (namespace, name), kind in list(self._kinds.items()):
            self._queue.add(Key(kind, namespace, name))
        self._queue.join()
        self.check()

    def check(self) -> None:
        """Raise what went wrong in the controller itself."""
        self._threads.check()

    def _watch(self, kind: str) -> None:
        resource = self._resources[kind]
        while not self._threads.stopping.is_set():
            with suppress(urllib3.exceptions.ProtocolError, client.ApiException):  # the connection ended: begin anew
                listed = resource.get().to_dict()
                for item in listed["items"]:
                    self._note(kind, item)
                version = listed["metadata"]["resourceVersion"]
                for event in resource.watch(
                    resource_version=version, timeout=_WATCH_SECONDS, watcher=self._watches[kind]
                ):
                    if self._threads.stopping.is_set():
                        return
                    self._note(kind, event["raw_object"])

    def _note(self, kind: str, item: Object) -> None:
        """Have an object worked on if anything but its status is new."""
        metadata = item["metadata"]
        key = Key(kind, metadata["namespace"], metadata["name"])
        self._kinds[key.namespace, key.name] = kind
        asked = {name: metadata.get(name) for name in ("uid", "generation", "annotations", "deletionTimestamp")}
        if self._seen.get(key) != asked:
            self._seen[key] = asked
            self._queue.add(key)

    def _work(self) -> None:
        while (key := self._queue.take()) is not None:
            try:
                again = self._reconcile(key)
            except (ConflictError, NotFoundError):  # the object was changed, or went, meanwhile
                again = _FIRST_RETRY_SECONDS
            finally:
                self._queue.done(key)
            if again is not None:
                self._queue.add(key, again)

    def _reconcile(self, key: Key) -> float | None:
        """Do what there is to do for an object; in how many seconds it is to be looked at again."""
        item = self._find(key)
        if item is None:
            self._seen.pop(key, None)
            return None
        managed = ManagedObject(item, self._resources[key.kind], self._names)
        if managed.annotations.get(_PAUSED) == "true":
            managed.report([condition("Synced", "False", "ReconcilePaused")])
            return None
        try:
            if managed.deleted:
                self._delete(managed)
                return None
            self._apply(managed)
        except kinds.Failed as failure:
            # Whether it is ready, a failure leaves as it was.
            managed.report([condition("Synced", "False", "ReconcileError", str(failure))], failure.observed)
            self._failures[key] = self._failures.get(key, 0) + 1
            return float(min(_FIRST_RETRY_SECONDS * 2 ** self._failures[key], _LONGEST_RETRY_SECONDS))
        self._failures.pop(key, None)
        return self._poll_seconds

    def _apply(self, managed: ManagedObject) -> None:
        self._resolve(managed)
        managed.keep()
        if not managed.has("Ready"):
            managed.report([condition("Ready", "False", "Creating")])
        external_name, observed = kinds.apply(self._external(managed), managed.may)
        managed.keep(external_name)
        managed.report([condition("Ready", "True", "Available"), _SYNCED], observed)

    def _delete(self, managed: ManagedObject) -> None:
        if not managed.held:
            return
        if "Delete" in managed.may:
            managed.report([condition("Ready", "False", "Deleting")])
            kinds.delete(self._external(managed))
        managed.release()

    def _resolve(self, managed: ManagedObject) -> None:
        """Write beside each reference what it refers to."""

        def follow(field: str, name: str) -> str:
            kind = self._kinds.get((managed.key.namespace, name))
            found = self._find(managed.key._replace(kind=kind, name=name)) if kind else None
            if found is None:
                raise kinds.Failed(f'cannot resolve references: spec.forProvider.{field}: "{name}" not found')
            value = referred_value(field, found)
            if value is None:
                why = "referenced field was empty (referenced resource may not yet be ready)"
                raise kinds.Failed(f"cannot resolve references: spec.forProvider.{field}: {why}")
            return value

        managed.resolve(follow_references(managed.for_provider, follow))

    def _external(self, managed: ManagedObject) -> kinds.Managed:
        return kinds.Managed(
            kind=managed.key.kind,
            external_name=managed.external_name,
            spec=without_references(managed.for_provider),
            aws=self._aws,
            secrets={} if managed.deleted else self._secret_values(managed),
            observed=managed.at_provider,
        )

    def _secret_values(self, managed: ManagedObject) -> Mapping[tuple[str, str], str]:
        """The values of the Secrets that a spec refers to, as far as they are there."""
        values = {}
        for reference in (value for field, value in managed.for_provider.items() if field.endswith("SecretRef")):
            name, key = reference["name"], reference["key"]
            with suppress(NotFoundError, KeyError):
                data = self._secrets.get(name=name, namespace=managed.key.namespace).to_dict()["data"]
                values[name, key] = base64.b64decode(data[key]).decode()
        return values

    def _find(self, key: Key) -> Object | None:
        try:
            found: Object = self._resources[key.kind].get(name=key.name, namespace=key.namespace).to_dict()
        except NotFoundError:
            return None
        return found
