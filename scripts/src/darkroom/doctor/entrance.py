"""The way in: the API key, API Gateway, the function behind it, and what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
from botocore.exceptions import ClientError

from darkroom.doctor.context import NAMESPACE, Context
from darkroom.doctor.finding import Finding, absent, ok, unknown, wrong
from darkroom_contract.names import api_key_prefix
from darkroom_contract.types import utcnow

if TYPE_CHECKING:
    from types_boto3_apigateway.type_defs import ApiKeyTypeDef, UsagePlanTypeDef

#: A route of every deployment; the emulator and the document both know it.
_ROUTE = "/v1/jobs"
#: A job that nobody has.
_NO_JOB = "v1/jobs/darkroom-doctor-asks"
_RECENT = timedelta(minutes=15)


def key(it: Context) -> Finding:
    """Whose the key is, and what API Gateway lets it do."""
    keys = list(_keys(it))
    if missing := [each.name for each in it.files.cluster.tenants if not _of_tenant(keys, it.names.tenant(each.name))]:
        return wrong(f"API Gateway has no key of {', '.join(missing)}", *_describe_api())
    if unusable := _unknown_values(it, keys):
        words = (
            f"AWS made up the value of a key of {', '.join(unusable)}, since its Secret was missing: nobody knows it"
        )
        return wrong(words, f"give {unusable[0]} another key: docs/cluster.md, API keys")
    if it.api_key is None:
        return unknown("no key was given, so that only its being there was looked at", "export DARKROOM_API_KEY=…")
    if it.tenant is None:
        owners = ", ".join(each.name for each in it.files.cluster.tenants)
        words = f"DARKROOM_API_KEY is of no tenant of this cluster: none of {owners} has keys that begin so"
        return wrong(words, "export DARKROOM_API_KEY=…", *_read_key(it.files.cluster.tenants[0].name))
    return _of_api_gateway(it, it.tenant, next((each for each in keys if each.get("value") == it.api_key), None))


def _of_api_gateway(it: Context, tenant: str, found: ApiKeyTypeDef | None) -> Finding:
    """How it stands with the tenant's key, as API Gateway has it."""
    if found is None:
        return wrong(f"API Gateway does not have this key, which begins as those of {tenant}", *_read_key(tenant))
    key_id = found["id"]
    if not found.get("enabled"):
        command = (
            f"aws apigateway update-api-key --api-key {key_id} --patch-operations op=replace,path=/enabled,value=true"
        )
        return wrong(f"the key of {tenant} is disabled ({key_id})", command)
    place = (it.rest_api_id, it.files.cluster.api.stage)
    plans = it.apigateway.get_usage_plans(keyId=key_id).get("items", [])
    plan = next((each for each in plans if place in _stages(each)), None)
    if plan is None:
        return wrong(f"no usage plan lets the key of {tenant} use the stage {place[1]}", *_describe_api())
    if plan.get("quota") and (left := _left_today(it, plan["id"], key_id)) is not None and left <= 0:
        limit = plan["quota"].get("limit")
        words = f"{tenant} has used up its quota of {limit} requests for today; it begins anew at midnight UTC"
        return wrong(words, f"raise dailyQuota of {tenant} in {it.folder}/cluster.yaml")
    return ok(f"of the tenant {tenant}")


def gateway(it: Context) -> Finding:
    """The REST API, its stage, and the paths that the stage serves."""
    stage = it.files.cluster.api.stage
    if it.rest_api_id is None:
        return wrong(f"there is no REST API {it.names.api}", *_describe_api())
    pages = it.apigateway.get_paginator("get_resources").paginate(restApiId=it.rest_api_id)
    if _ROUTE not in {each.get("path") for page in pages for each in page["items"]}:
        command = f"kubectl -n {NAMESPACE} delete restapis.apigateway.aws.m.upbound.io {it.names.api}.rest-api"
        words = (
            f"the REST API {it.rest_api_id} has no path {_ROUTE}: its import failed; it is made again, with another URL"
        )
        return wrong(words, command)
    try:
        it.apigateway.get_stage(restApiId=it.rest_api_id, stageName=stage)
    except it.apigateway.exceptions.NotFoundException:
        return wrong(f"the REST API {it.rest_api_id} has no stage {stage}", *_describe_api())
    return ok(_url(it) or it.rest_api_id)


def function(it: Context) -> Finding:
    """The Lambda function: whether it can run at all, and whether it may be called."""
    try:
        found = it.lambda_.get_function(FunctionName=it.names.api)
    except it.lambda_.exceptions.ResourceNotFoundException:
        return wrong(f"there is no function {it.names.api}", *_describe_api())
    state = found["Configuration"]
    for what, value, reason in (
        ("is", state.get("State"), state.get("StateReason")),
        (
            "could not be changed: its last update is",
            state.get("LastUpdateStatus"),
            state.get("LastUpdateStatusReason"),
        ),
    ):
        if value == "Failed":
            repository = it.names.image_repository("api")
            words = f"the function {what} {value}: {reason or 'AWS says no more'}; its image has to be in {repository}"
            return wrong(words, f"darkroom pin {it.folder}", *_describe_api())
    reserved = it.lambda_.get_function_concurrency(FunctionName=it.names.api).get("ReservedConcurrentExecutions")
    if reserved == 0:
        command = f"aws lambda delete-function-concurrency --function-name {it.names.api}"
        return wrong("the function is throttled: its reserved concurrency is 0", command)
    if not _may_be_invoked(it):
        return wrong("API Gateway may not invoke the function", *_describe_api())
    return _recent(it) or ok(f"{state.get('State', 'Active')}, {found['Code'].get('ImageUri', 'no image')}")


def answer(it: Context) -> Finding:
    """What a harmless question gets: about a job that nobody has."""
    url = _url(it)
    if url is None:
        return absent("it is not known where the API is")
    headers = {"x-api-key": it.api_key} if it.api_key else {}
    try:
        answered = httpx.get(f"{url.rstrip('/')}/{_NO_JOB}", headers=headers, timeout=35)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return wrong(f"{url} cannot be reached: {error}", f"export DARKROOM_URL={_own_url(it) or '…'}")
    return _judge(it, url, answered.status_code)


def _judge(it: Context, url: str, status: int) -> Finding:
    logs = f"aws logs tail {it.names.api_log_group} --since 15m"
    match status:
        case 404:
            return ok(f"{url} answers")
        case 401 | 403 if not it.api_key:
            return ok(f"{url} answers, and wants a key")
        case 401 | 403:
            words = "the API refuses the key; a new key, and a new stage, take about a minute to be known everywhere"
            return wrong(words, f"export DARKROOM_URL={_own_url(it) or url}")
        case 429:
            return wrong(
                "the API is asked more than the tenant's rate or quota allows",
                f"see rateLimit in {it.folder}/cluster.yaml",
            )
        case status if status >= 500:
            return wrong(f"the API answers with {status}: its function failed, or could not be called", logs)
    return wrong(
        f"what answers at {url} is not Darkroom's API: status {status}", f"export DARKROOM_URL={_own_url(it) or '…'}"
    )


def _recent(it: Context) -> Finding | None:
    """What became of the function's calls lately, if most of them failed or were turned away."""
    try:
        calls, errors, throttles = (_sum(it, name) for name in ("Invocations", "Errors", "Throttles"))
    except ClientError:  # without these numbers the function's state still counts
        return None
    if throttles > calls:
        words = f"Lambda turned {throttles:.0f} calls of the last 15 minutes away, and took {calls:.0f}"
        return wrong(words, f"raise api.concurrency in {it.folder}/cluster.yaml, or the account's quota of Lambda")
    if errors and errors >= calls / 2:
        words = f"{errors:.0f} of the {calls:.0f} calls of the last 15 minutes failed"
        return wrong(words, f"aws logs tail {it.names.api_log_group} --since 15m")
    return None


def _sum(it: Context, metric: str) -> float:
    answer = it.aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=[{"Name": "FunctionName", "Value": it.names.api}],
        StartTime=utcnow() - _RECENT,
        EndTime=utcnow() + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))


def _may_be_invoked(it: Context) -> bool:
    try:
        policy = it.lambda_.get_policy(FunctionName=it.names.api)["Policy"]
    except it.lambda_.exceptions.ResourceNotFoundException:
        return False
    return "apigateway.amazonaws.com" in policy and (it.rest_api_id is None or it.rest_api_id in policy)


def _keys(it: Context) -> Iterator[ApiKeyTypeDef]:
    """The cluster's keys with their values, which are compared and never shown."""
    pages = it.apigateway.get_paginator("get_api_keys").paginate(
        nameQuery=it.names.tenant(""), includeValues=True, PaginationConfig={"PageSize": 500}
    )
    for page in pages:
        yield from page["items"]


def _of_tenant(keys: list[ApiKeyTypeDef], name: str) -> list[ApiKeyTypeDef]:
    return [each for each in keys if each.get("name") == name]


def _unknown_values(it: Context, keys: list[ApiKeyTypeDef]) -> list[str]:
    """The tenants of whom a key does not begin as the API knows them by."""
    return [
        each.name
        for each in it.files.cluster.tenants
        for key in _of_tenant(keys, it.names.tenant(each.name))
        if not key.get("value", "").startswith(api_key_prefix(each.name))
    ]


def _stages(plan: UsagePlanTypeDef) -> set[tuple[str | None, str | None]]:
    return {(each.get("apiId"), each.get("stage")) for each in plan.get("apiStages", [])}


def _left_today(it: Context, plan: str, key_id: str) -> int | None:
    """How many requests the quota leaves; None where AWS does not say."""
    today = utcnow().date().isoformat()
    try:
        usage = it.apigateway.get_usage(usagePlanId=plan, keyId=key_id, startDate=today, endDate=today)
    except ClientError:
        return None
    days = usage.get("items", {}).get(key_id, [])
    return int(days[-1][1]) if days else None


def _url(it: Context) -> str | None:
    """Where the API is asked: as it was said, or else where AWS has it. An emulator serves none."""
    return it.url or (None if it.aws.is_emulated else _own_url(it))


def _own_url(it: Context) -> str | None:
    return it.names.api_url(it.rest_api_id, it.files.cluster.api.stage) if it.rest_api_id else None


def _describe_api() -> tuple[str, ...]:
    return (f"kubectl -n {NAMESPACE} describe promptapi",)


def _read_key(tenant: str) -> tuple[str, ...]:
    """How to read a tenant's key; the command shows it, this does not."""
    return (f"kubectl -n {NAMESPACE} get secret api-key-{tenant} -o jsonpath='{{.data.value}}' | base64 -d",)
