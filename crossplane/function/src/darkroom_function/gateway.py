"""API Gateway: the REST API made of the OpenAPI document, its deployment and stage, and the tenants' keys. Pure.

A Deployment is a snapshot of the API and cannot be changed, so each document has one of its own:

1. the RestAPI gets the new document; the stage goes on with the old Deployment;
2. once the RestAPI is observed with it, the new Deployment is made, and the stage is told to take it;
3. once the stage is observed on it, the old Deployment is left out.

What belongs to a stage is made once there is one.

There are no access logs: for a REST API they need a role that is set for the whole account.
"""

import hashlib
from collections.abc import Iterator

from pydantic import JsonValue

from darkroom_contract.cluster import Tenant
from darkroom_contract.names import Names
from darkroom_function.apis import PromptApiSpec
from darkroom_function.managed import Kind, Managed, Observed, Owner, at_provider, declared, is_ready

REST_API = "rest-api"
_STAGE = "stage"
_DEPLOYMENTS = "deployment."

#: What an account has by default, for all of its APIs in a region.
_ACCOUNT_RATE_LIMIT, _ACCOUNT_BURST_LIMIT = 10_000.0, 5_000


def compose(owner: Owner, names: Names, spec: PromptApiSpec, body: str, observed: Observed) -> Iterator[Managed]:
    """The API, and everybody's way into it. ``body`` is the OpenAPI document."""
    yield owner.managed(
        Kind.REST_API,
        REST_API,
        {"name": names.api, "body": body, "endpointConfiguration": {"types": ["REGIONAL"]}},
    )
    current = _deployment_key(body)
    if current in observed or at_provider(observed, REST_API, "body") == body:
        yield _deployment(owner, current)
        yield _stage(owner, spec, owner.reference(current))
    elif _STAGE in observed:
        yield _stage(owner, spec, declared(observed, _STAGE, "deploymentIdRef"))
    if not is_current(body, observed):
        old = (key for key in observed if key.startswith(_DEPLOYMENTS) and key != current)
        yield from (_deployment(owner, key) for key in sorted(old))
    has_stage = is_ready(observed, _STAGE)
    of_stage = [_method_settings(owner, spec)]
    of_stage += [resource for tenant in spec.tenants for resource in _tenant(owner, names, spec.api.stage, tenant)]
    yield from (resource for resource in of_stage if has_stage or resource.key in observed)


def is_current(body: str, observed: Observed) -> bool:
    """Whether the stage is observed to serve this document."""
    deployment_id = at_provider(observed, _deployment_key(body), "id")
    return deployment_id is not None and at_provider(observed, _STAGE, "deploymentId") == deployment_id


def api_key_secret(tenant: str) -> str:
    """The Secret, in the composite's namespace, whose field ``value`` is the tenant's API key."""
    return f"api-key-{tenant}"


def _deployment_key(body: str) -> str:
    return f"{_DEPLOYMENTS}{hashlib.sha256(body.encode()).hexdigest()[:10]}"


def _deployment(owner: Owner, key: str) -> Managed:
    return owner.managed(Kind.DEPLOYMENT, key, {"restApiIdRef": owner.reference(REST_API)})


def _stage(owner: Owner, spec: PromptApiSpec, deployment: JsonValue) -> Managed:
    return owner.managed(
        Kind.STAGE,
        _STAGE,
        {
            "restApiIdRef": owner.reference(REST_API),
            "stageName": spec.api.stage,
            "xrayTracingEnabled": True,
            **({"deploymentIdRef": deployment} if deployment else {}),
        },
    )


def _method_settings(owner: Owner, spec: PromptApiSpec) -> Managed:
    """Metrics; and no more requests than the tenants may send together."""
    return owner.managed(
        Kind.METHOD_SETTINGS,
        "method-settings",
        {
            "restApiIdRef": owner.reference(REST_API),
            "stageName": spec.api.stage,
            "methodPath": "*/*",
            "settings": {
                "metricsEnabled": True,
                "throttlingRateLimit": min(sum(tenant.rate_limit for tenant in spec.tenants), _ACCOUNT_RATE_LIMIT),
                "throttlingBurstLimit": min(sum(tenant.burst_limit for tenant in spec.tenants), _ACCOUNT_BURST_LIMIT),
            },
        },
    )


def _tenant(owner: Owner, names: Names, stage: str, tenant: Tenant) -> Iterator[Managed]:
    """A tenant's key and what may be asked with it. Who is no tenant any more loses the key."""
    name, key, plan = names.tenant(tenant.name), f"api-key.{tenant.name}", f"usage-plan.{tenant.name}"
    yield owner.managed(
        Kind.API_KEY, key, {"name": name, "valueSecretRef": {"name": api_key_secret(tenant.name), "key": "value"}}
    )
    quota: dict[str, JsonValue] = (
        {"quotaSettings": {"limit": tenant.daily_quota, "period": "DAY"}} if tenant.daily_quota else {}
    )
    yield owner.managed(
        Kind.USAGE_PLAN,
        plan,
        {
            "name": name,
            "apiStages": [{"apiIdRef": owner.reference(REST_API), "stage": stage}],
            "throttleSettings": {"rateLimit": tenant.rate_limit, "burstLimit": tenant.burst_limit},
            **quota,
        },
    )
    yield owner.managed(
        Kind.USAGE_PLAN_KEY,
        f"usage-plan-key.{tenant.name}",
        {"keyIdRef": owner.reference(key), "keyType": "API_KEY", "usagePlanIdRef": owner.reference(plan)},
    )
