"""The composition of ``PromptApi``: the topics, the API and its function, and keys for every tenant. Pure.

It is ready when a prompt can go in and its notification comes out into the cluster's own queue. Other subscribers it
does not wait for: they are in others' hands, and the status says how it stands with each.
"""

from collections.abc import Iterator

from darkroom_contract import openapi
from darkroom_contract.names import Names
from darkroom_contract.subscribers import Subscriber
from darkroom_function import alarms, api_function, gateway, messaging
from darkroom_function.apis import PromptApiSpec, PromptApiStatus, SubscriberStatus
from darkroom_function.managed import Composed, Managed, Observed, Owner, Usage, at_provider


def compose(spec: PromptApiSpec, observed: Observed) -> Composed[PromptApiStatus]:
    """What AWS has of a cluster's API."""
    names = spec.cluster.names
    owner = Owner(names.api, spec.cluster.region)
    rest_api_id = at_provider(observed, gateway.REST_API, "id")
    body = openapi.text(names.api_invoke_arn, names.api)
    permission = list(api_function.invoke_permission(owner, names, rest_api_id, observed))
    wrong_keys = tuple(gateway.wrong_keys(spec, observed))
    status = PromptApiStatus(
        api_url=names.api_url(rest_api_id, spec.api.stage) if rest_api_id else None,
        api_key_secrets={tenant.name: gateway.api_key_secret(tenant.name) for tenant in spec.tenants},
        prompt_topic_arn=names.topic_arn(names.prompt_topic),
        result_topic_arn=names.topic_arn(names.result_topic),
        result_queue_url=names.queue_url(names.result_topic),
        subscribers=tuple(_told(subscriber, observed) for subscriber in spec.subscribers),
        wrong_keys=wrong_keys,
    )
    return Composed.of(
        [
            *_topics(owner, names),
            *messaging.subscribers(owner, names, names.result_topic, spec.subscribers, observed),
            *api_function.compose(owner, names, spec),
            *gateway.compose(owner, names, spec, body, observed),
            *permission,
            *alarms.of_api(owner, names, spec),
            *_protection(owner, spec),
        ],
        observed,
        status,
        complete=bool(permission)
        and api_function.is_current(spec, observed)
        and gateway.is_current(spec, body, observed),
        problem=_about(wrong_keys),
    )


def _topics(owner: Owner, names: Names) -> Iterator[Managed]:
    topic, dead_letters = names.result_topic, names.result_dead_letter_queue
    yield from messaging.topic(owner, names, "prompts", names.prompt_topic)
    yield from messaging.topic(owner, names, "results", topic)
    yield from messaging.queue(owner, names, "results-dead-letter-queue", dead_letters, topic=topic)
    # It keeps the notifications until someone asks for them.
    yield from messaging.queue(owner, names, "results-queue", names.result_topic, topic=topic)
    yield messaging.subscription(
        owner, names, "results-subscription", topic=topic, queue=names.result_topic, dead_letters=dead_letters
    )


def _protection(owner: Owner, spec: PromptApiSpec) -> Iterator[Usage]:
    if spec.protected:
        loss = "With it go the topics, the queue with the notifications that nobody has read yet, and the API's URL."
        yield Usage.of_composite(owner, "PromptApi", spec.cluster.name, loss)


def _told(subscriber: Subscriber, observed: Observed) -> SubscriberStatus:
    return SubscriberStatus(name=subscriber.name, state=messaging.subscription_state(subscriber, observed))


def _about(wrong_keys: tuple[str, ...]) -> str | None:
    if not wrong_keys:
        return None
    return f"the API refuses these keys, which do not begin as those of their tenant have to: {', '.join(wrong_keys)}"
