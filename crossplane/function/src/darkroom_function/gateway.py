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
from darkroom_contract.names import Names, api_key_prefix
from darkroom_function.apis import PromptApiSpec
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed, Observed, Owner, at_provider, is_ready, keyed

REST_API = "rest-api"
#: What the keys of the tenants' API keys begin with: ``api-key.<tenant>.<field of the Secret>``.
API_KEY = "api-key"
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
    rest_api_id = at_provider(observed, REST_API, "id")
    served = is_ready(observed, stage.key) and rest_api_id is not None
    for resource in (settings, *_tenants(owner, names, spec, rest_api_id)):
        if served:
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
    """The Secret, in the composite's namespace, whose fields are the tenant's API keys."""
    return f"api-key-{tenant}"


def wrong_keys(spec: PromptApiSpec, observed: Observed) -> Iterator[str]:
    """The keys by which the API does not know their tenant.

    The provider passes over a Secret that is not there (upjet#651), and AWS makes a key up; it never changes one.
    """
    for tenant in spec.tenants:
        for key in tenant.keys:
            value = at_provider(observed, _usage_plan_key(tenant.name, key), "value")
            if value and not value.startswith(api_key_prefix(tenant.name)):
                yield f"{tenant.name}.{key}"


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
    """Metrics; and no more requests than the tenants' keys, each of which has the rate to itself, may send together."""
    rate = sum(tenant.rate_limit * len(tenant.keys) for tenant in spec.tenants)
    burst = sum(tenant.burst_limit * len(tenant.keys) for tenant in spec.tenants)
    return owner.managed(
        Kind.METHOD_SETTINGS,
        keyed("method-settings", spec.api.stage),
        {
            "restApiIdRef": owner.reference(REST_API),
            "stageName": spec.api.stage,
            "methodPath": "*/*",
            "settings": {
                "metricsEnabled": True,
                "throttlingRateLimit": min(rate, _ACCOUNT_RATE_LIMIT),
                "throttlingBurstLimit": min(burst, _ACCOUNT_BURST_LIMIT),
            },
        },
    )


def _tenants(owner: Owner, names: Names, spec: PromptApiSpec, rest_api_id: str | None) -> Iterator[Managed]:
    # By its id, not by a reference: the provider would write the id into the list beside the reference, and Crossplane,
    # which applies a list whole, would take it out again, for ever.
    stage: JsonValue = {"apiId": rest_api_id, "stage": spec.api.stage}
    for tenant in spec.tenants:
        yield from _tenant(owner, names, stage, tenant)


def _tenant(owner: Owner, names: Names, stage: JsonValue, tenant: Tenant) -> Iterator[Managed]:
    """A tenant's keys and what may be asked with them. Who is no tenant any more loses them.

    AWS cannot change the value of a key. Another value is another key, beside the one before it until that is dropped.
    """
    name, plan = names.tenant(tenant.name), f"{_PLANS}.{tenant.name}"
    quota: dict[str, JsonValue] = (
        {"quotaSettings": {"limit": tenant.daily_quota, "period": "DAY"}} if tenant.daily_quota else {}
    )
    yield owner.managed(
        Kind.USAGE_PLAN,
        plan,
        {
            "name": name,
            "apiStages": [stage],
            "throttleSettings": {"rateLimit": tenant.rate_limit, "burstLimit": tenant.burst_limit},
            **quota,
        },
    )
    for key in tenant.keys:
        api_key = f"{API_KEY}.{tenant.name}.{key}"
        yield owner.managed(
            Kind.API_KEY,
            api_key,
            {
                "name": name,
                "description": f"The key {key} of the tenant {tenant.name}",
                "valueSecretRef": {"name": api_key_secret(tenant.name), "key": key},
            },
        )
        yield owner.managed(
            Kind.USAGE_PLAN_KEY,
            _usage_plan_key(tenant.name, key),
            {"keyIdRef": owner.reference(api_key), "keyType": "API_KEY", "usagePlanIdRef": owner.reference(plan)},
        )


def _usage_plan_key(tenant: str, key: str) -> str:
    return f"usage-plan-key.{tenant}.{key}"
