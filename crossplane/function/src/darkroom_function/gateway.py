"""API Gateway: the REST API made of the OpenAPI document, its deployment and stage, and the tenants' keys. Pure.

A Deployment is a snapshot of the API and cannot be changed, so each document has one of its own:

1. the RestAPI gets the new document; the stage goes on with the old Deployment;
2. once the RestAPI is observed with it, the new Deployment is made, and the stage is told to take it;
3. once the stage is observed on it, the old Deployment is left out.

What belongs to a stage is made once there is one. A stage cannot be renamed, so each name has a stage of its own; the
old one, and its settings, are left out once the new one serves and no usage plan is observed on the old one.

There are no access logs: for a REST API they need a role that is set for the whole account.
"""

from collections.abc import Iterator

from pydantic import JsonValue

from darkroom_contract.cluster import Tenant
from darkroom_contract.names import Names
from darkroom_function.apis import PromptApiSpec
from darkroom_function.managed import Kind, Managed, Observed, Owner, at_provider, is_ready, keyed

REST_API = "rest-api"
_PLANS = "usage-plan"

#: What an account has by default, for all of its APIs in a region.
_ACCOUNT_RATE_LIMIT, _ACCOUNT_BURST_LIMIT = 10_000.0, 5_000


def compose(owner: Owner, names: Names, spec: PromptApiSpec, body: str, observed: Observed) -> Iterator[Managed]:
    """The API, and everybody's way into it. ``body`` is the OpenAPI document."""
    yield owner.managed(
        Kind.REST_API,
        REST_API,
        {"name": names.api, "body": body, "endpointConfiguration": {"types": ["REGIONAL"]}},
    )
    deployment, stage = _deployment(owner, body), _stage(owner, spec, body)
    if deployment.key in observed or at_provider(observed, REST_API, "body") == body:
        yield deployment
        yield stage
    elif stage.key in observed:
        yield owner.kept(stage.kind, stage.key, observed)
    settings = _method_settings(owner, spec)
    if not is_current(spec, body, observed):
        for current in (deployment, stage, settings):
            yield from owner.earlier(current, observed)
    has_stage = is_ready(observed, stage.key)
    for resource in (settings, *_tenants(owner, names, spec)):
        if has_stage:
            yield resource
        elif resource.key in observed:
            yield owner.kept(resource.kind, resource.key, observed)


def is_current(spec: PromptApiSpec, body: str, observed: Observed) -> bool:
    """Whether the stage is observed to serve this document, and no usage plan to be for another stage."""
    deployment_id = at_provider(observed, _deployment_key(body), "id")
    plans = (key for key in observed if key.startswith(f"{_PLANS}."))
    stages = {stage.get("stage") for plan in plans for stage in at_provider(observed, plan, "apiStages") or ()}
    served = at_provider(observed, _stage_key(spec), "deploymentId")
    return deployment_id is not None and served == deployment_id and stages <= {spec.api.stage}


def api_key_secret(tenant: str) -> str:
    """The Secret, in the composite's namespace, whose field ``value`` is the tenant's API key."""
    return f"api-key-{tenant}"


def _deployment_key(body: str) -> str:
    return keyed("deployment", body)


def _stage_key(spec: PromptApiSpec) -> str:
    return keyed("stage", spec.api.stage)


def _deployment(owner: Owner, body: str) -> Managed:
    return owner.managed(Kind.DEPLOYMENT, _deployment_key(body), {"restApiIdRef": owner.reference(REST_API)})


def _stage(owner: Owner, spec: PromptApiSpec, body: str) -> Managed:
    return owner.managed(
        Kind.STAGE,
        _stage_key(spec),
        {
            "restApiIdRef": owner.reference(REST_API),
            "stageName": spec.api.stage,
            "deploymentIdRef": owner.reference(_deployment_key(body)),
            "xrayTracingEnabled": True,
        },
    )


def _method_settings(owner: Owner, spec: PromptApiSpec) -> Managed:
    """Metrics; and no more requests than the tenants may send together."""
    return owner.managed(
        Kind.METHOD_SETTINGS,
        keyed("method-settings", spec.api.stage),
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


def _tenants(owner: Owner, names: Names, spec: PromptApiSpec) -> Iterator[Managed]:
    for tenant in spec.tenants:
        yield from _tenant(owner, names, spec.api.stage, tenant)


def _tenant(owner: Owner, names: Names, stage: str, tenant: Tenant) -> Iterator[Managed]:
    """A tenant's key and what may be asked with it. Who is no tenant any more loses the key."""
    name, key, plan = names.tenant(tenant.name), f"api-key.{tenant.name}", f"{_PLANS}.{tenant.name}"
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
