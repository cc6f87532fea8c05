"""The composition of ``PromptApi``: the topics, the API and its function, and a key for every tenant. Pure."""

from collections.abc import Iterator

from darkroom_contract import openapi
from darkroom_contract.names import Names
from darkroom_function import api_function, gateway, messaging
from darkroom_function.apis import PromptApiSpec, PromptApiStatus
from darkroom_function.managed import Composed, Managed, Observed, Owner, at_provider

#: Long enough for a subscriber to deal with a notification; SQS's default.
_RESULT_VISIBILITY_TIMEOUT_SECONDS = 30


def compose(spec: PromptApiSpec, observed: Observed) -> Composed[PromptApiStatus]:
    """What AWS has of a cluster's API."""
    names = spec.cluster.names
    owner = Owner(names.api, spec.cluster.region)
    rest_api_id = at_provider(observed, gateway.REST_API, "id")
    body = openapi.text(names.api_invoke_arn, names.api)
    permission = list(api_function.invoke_permission(owner, names, rest_api_id, observed))
    status = PromptApiStatus(
        api_url=names.api_url(rest_api_id, spec.api.stage) if rest_api_id else None,
        prompt_topic_arn=names.topic_arn(names.prompt_topic),
        result_topic_arn=names.topic_arn(names.result_topic),
        result_queue_url=names.queue_url(names.result_topic),
    )
    return Composed.of(
        [
            *_topics(owner, names),
            *api_function.compose(owner, names, spec),
            *gateway.compose(owner, names, spec, body, observed),
            *permission,
        ],
        observed,
        status,
        complete=bool(permission) and gateway.is_current(spec, body, observed),
    )


def _topics(owner: Owner, names: Names) -> Iterator[Managed]:
    def result_queue(key: str, name: str) -> list[Managed]:
        return messaging.queue(
            owner,
            names,
            key,
            name,
            topic=names.result_topic,
            visibility_timeout_seconds=_RESULT_VISIBILITY_TIMEOUT_SECONDS,
        )

    yield from messaging.topic(owner, names, "prompts", names.prompt_topic)
    yield from messaging.topic(owner, names, "results", names.result_topic)
    yield from result_queue("results-dead-letter-queue", names.result_dead_letter_queue)
    # It keeps the notifications until someone asks for them.
    yield from result_queue("results-queue", names.result_topic)
    yield messaging.subscription(
        owner,
        names,
        "results-subscription",
        topic=names.result_topic,
        queue=names.result_topic,
        dead_letters=names.result_dead_letter_queue,
    )
