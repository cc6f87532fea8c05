"""The API's Lambda function: its role, its log, and who may invoke it. Pure."""

from collections.abc import Iterator

from darkroom_contract.names import Actor, Bucket, Names
from darkroom_function import permissions, policy
from darkroom_function.apis import PromptApiSpec
from darkroom_function.identity import role
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed, Observed, Owner, at_provider, keyed

_FUNCTION = "function"
_PERMISSION = "invoke-permission"

#: As all of the project's images: built and tested on one kind of machine, without emulation. Graviton would save a
#: fifth of the function's cost, which is next to nothing beside a GPU's.
_ARCHITECTURE = "x86_64"


def compose(owner: Owner, names: Names, spec: PromptApiSpec) -> Iterator[Managed]:
    """The function and what it needs."""
    name = names.role(Actor.API)
    trust = policy.allow("AllowLambda", ["sts:AssumeRole"], service="lambda.amazonaws.com")
    yield from role(owner, names, Actor.API, name, trust, permissions.api(names))
    yield owner.managed(
        Kind.LOG_GROUP, "log-group", {"retentionInDays": spec.log_retention}, external_name=names.api_log_group
    )
    yield owner.managed(
        Kind.FUNCTION,
        _FUNCTION,
        {
            "packageType": "Image",
            "imageUri": spec.image,
            "architectures": [_ARCHITECTURE],
            "role": names.role_arn(name),
            "memorySize": spec.api.memory,
            "timeout": spec.api.timeout,
            **({"reservedConcurrentExecutions": spec.api.concurrency} if spec.api.concurrency else {}),
            "environment": {"variables": {**_environment(names, spec)}},
            "loggingConfig": {"logFormat": "JSON", "logGroup": names.api_log_group},
            "tracingConfig": {"mode": "Active"},
        },
        external_name=names.api,
    )


def is_current(spec: PromptApiSpec, observed: Observed) -> bool:
    """Whether the function is observed to have this image."""
    return bool(at_provider(observed, _FUNCTION, "imageUri") == spec.image)


def _environment(names: Names, spec: PromptApiSpec) -> dict[str, str]:
    return {
        "PROMPT_TOPIC_ARN": names.topic_arn(names.prompt_topic),
        "JOBS_BUCKET": names.bucket(Bucket.JOBS),
        "OUTPUT_BUCKET": names.bucket(Bucket.OUTPUTS),
        "TENANTS": ",".join(tenant.name for tenant in spec.tenants),
        "TIMEOUT_SECONDS": str(spec.api.timeout),
        "POWERTOOLS_SERVICE_NAME": names.api,
        "POWERTOOLS_METRICS_NAMESPACE": "Darkroom",
    }


def invoke_permission(owner: Owner, names: Names, rest_api_id: str | None, observed: Observed) -> Iterator[Managed]:
    """That API Gateway may invoke the function for this API: none until the API has an id, and never none again."""
    if rest_api_id is None:
        yield from owner.kept_all(Kind.PERMISSION, _PERMISSION, observed)
        return
    source = names.api_execution_arn(rest_api_id)
    key = keyed(_PERMISSION, source)
    permission = owner.managed(
        Kind.PERMISSION,
        key,
        {
            "functionName": names.api,
            "statementId": key.replace(".", "-"),
            "action": "lambda:InvokeFunction",
            "principal": "apigateway.amazonaws.com",
            "sourceArn": source,
        },
    )
    yield from owner.replacing(permission, observed)
