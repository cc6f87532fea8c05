"""The composition of ``ModelRuntime``: a runtime's queues, its agent's role, its workflows, its entry in the registry.

Pure.

The API learns of a runtime by its entry, so the entry waits for all that brings a prompt into the queue, and for what
pods need to work on it; from then on it stays for as long as the runtime is asked for. It names another checkpoint once
the subscription lets that through.
"""

from collections.abc import Iterator

from pydantic import JsonValue, ValidationError

from darkroom_contract.names import Actor, Bucket, Names, registry_key, workflow_key
from darkroom_contract.registry import RegistryEntry
from darkroom_function import alarms, messaging, permissions
from darkroom_function.apis import ModelRuntimeSpec, ModelRuntimeStatus, ServiceAccount
from darkroom_function.identity import pod_identity, role, trusting_pods
from darkroom_function.kinds import Kind
from darkroom_function.managed import Composed, Managed, Observed, Owner, declared, is_ready

#: The agent prolongs it by its heartbeat for as long as it holds a message. When a GPU is gone without a word, another
#: has the message after this time.
_VISIBILITY_TIMEOUT_SECONDS = 60
#: A backstop: the agent counts how often a GPU began a job, and gives up long before. A message that is given back,
#: by a Spot interruption say, was received but is no failure.
MAX_RECEIVE_COUNT = 50
_SUBSCRIPTION = "subscription"
_ENTRY = "registry-entry"
#: What a prompt passes on its way into the queue.
_ROUTE = ("queue", "queue-policy", _SUBSCRIPTION)


def compose(spec: ModelRuntimeSpec, observed: Observed) -> Composed[ModelRuntimeStatus]:
    """What AWS has of one model runtime."""
    names = spec.cluster.names
    queue, dead_letters = names.runtime_queue(spec.name), names.dead_letter_queue(spec.name)
    owner = Owner(queue, spec.cluster.region)
    identity = list(_identity(owner, names, spec, observed))
    resources = [
        *_queues(owner, names, spec, queue, dead_letters),
        *identity,
        *alarms.of_runtime(owner, names, spec.name, spec.alarms),
        *_workflows(owner, names, spec),
    ]
    routed = messaging.is_filtered(observed, _SUBSCRIPTION, _routed_here(spec))
    awaited = (*_ROUTE, *(resource.key for resource in identity))
    registered = _ENTRY in observed or (routed and is_ready(observed, *awaited))
    if registered:
        checkpoint = _routing_checkpoint(spec) if routed else _registered_checkpoint(observed)
        resources.append(_registry_entry(owner, names, spec, checkpoint))
    status = ModelRuntimeStatus(
        queue_url=names.queue_url(queue),
        dead_letter_queue_url=names.queue_url(dead_letters),
        role_arn=names.role_arn(names.runtime_role(spec.name)),
    )
    return Composed.of(resources, observed, status, complete=registered and routed)


def _queues(owner: Owner, names: Names, spec: ModelRuntimeSpec, queue: str, dead_letters: str) -> list[Managed]:
    def runtime_queue(key: str, name: str) -> list[Managed]:
        return messaging.queue(
            owner, names, key, name, topic=names.prompt_topic, visibility_timeout_seconds=_VISIBILITY_TIMEOUT_SECONDS
        )

    return [
        *runtime_queue("dead-letter-queue", dead_letters),
        *runtime_queue("queue", queue),
        *messaging.redrive(owner, names, queue, dead_letters, max_receive_count=MAX_RECEIVE_COUNT),
        messaging.subscription(
            owner,
            names,
            _SUBSCRIPTION,
            topic=names.prompt_topic,
            queue=queue,
            attributes=_routed_here(spec),
            dead_letters=dead_letters,
        ),
    ]


def _routed_here(spec: ModelRuntimeSpec) -> JsonValue:
    by_name: JsonValue = {"runtime": [spec.name]}
    checkpoint = _routing_checkpoint(spec)
    if checkpoint is None:
        return by_name
    return {"$or": [{"sd_model_checkpoint": [checkpoint]}, by_name]}


def _routing_checkpoint(spec: ModelRuntimeSpec) -> str | None:
    return spec.checkpoint if spec.default_for_checkpoint else None


def _registered_checkpoint(observed: Observed) -> str | None:
    """The checkpoint by which the API knows the runtime, as far as that is known."""
    try:
        return RegistryEntry.model_validate_json(declared(observed, _ENTRY, "content") or "").checkpoint
    except ValidationError:
        return None


def _identity(owner: Owner, names: Names, spec: ModelRuntimeSpec, observed: Observed) -> Iterator[Managed]:
    name = names.runtime_role(spec.name)
    account = ServiceAccount(namespace=spec.namespace, name=spec.service_account)
    statements = permissions.agent(names, spec.name, spec.input_buckets)
    yield from role(owner, names, Actor.RUNTIME, name, trusting_pods(spec.cluster, account), statements)
    yield from pod_identity(owner, spec.cluster, account, name, observed)


def _registry_entry(owner: Owner, names: Names, spec: ModelRuntimeSpec, checkpoint: str | None) -> Managed:
    entry = RegistryEntry(
        name=spec.name,
        engine=spec.engine,
        accepting=spec.accepting,
        checkpoint=checkpoint,
        workflows=tuple(sorted(spec.workflows)),
    )
    return _object(owner, names, _ENTRY, registry_key(spec.name), entry.to_json())


def _workflows(owner: Owner, names: Names, spec: ModelRuntimeSpec) -> Iterator[Managed]:
    for name, workflow in sorted(spec.workflows.items()):
        yield _object(owner, names, f"workflow.{name}", workflow_key(spec.name, name), workflow.to_json())


def _object(owner: Owner, names: Names, key: str, s3_key: str, content: str) -> Managed:
    """An object of JSON in the bucket for jobs."""
    return owner.managed(
        Kind.OBJECT,
        key,
        {
            "bucket": names.bucket(Bucket.JOBS),
            "key": s3_key,
            # The provider's default, private, is refused by a bucket that takes no other owner.
            "acl": "bucket-owner-full-control",
            "contentType": "application/json",
            "content": content,
        },
    )
