"""API Gateway: REST APIs with their deployments, stages and answers; API keys and usage plans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from darkroom.local.kinds.external import External, Managed, Observation, Refused, picked


class _RestApi(External):
    def observe(self, it: Managed) -> Observation:
        found = it.client("apigateway").get_rest_api(restApiId=it.external_name)
        return {
            "id": it.external_name,
            "arn": f"arn:aws:apigateway:{it.region}::/restapis/{it.external_name}",
            "executionArn": it.arn("execute-api", it.external_name),
            "rootResourceId": found.get("rootResourceId"),
            "name": found["name"],
            # As with the provider: AWS is not asked what became of the document.
            "body": it.aws.records.get((it.kind, it.external_name)),
            "endpointConfiguration": picked(found["endpointConfiguration"], ("types",)),
        }

    def create(self, it: Managed) -> str:
        endpoint = picked(it.spec.get("endpointConfiguration", {"types": ["EDGE"]}), ("types",))
        answer = it.client("apigateway").create_rest_api(name=it.spec["name"], endpointConfiguration=endpoint)
        api_id: str = answer["id"]
        self._put_body(it, api_id)
        return api_id

    def update(self, it: Managed) -> None:
        changed = self.differences(it)
        operations = []
        if "name" in changed:
            operations.append(_replace("/name", it.spec["name"]))
        if "endpointConfiguration" in changed:
            old, new = it.observed["endpointConfiguration"]["types"][0], it.spec["endpointConfiguration"]["types"][0]
            operations.append(_replace(f"/endpointConfiguration/types/{old}", new))
        it.client("apigateway").update_rest_api(restApiId=it.external_name, patchOperations=operations)
        if "body" in changed:
            self._put_body(it, it.external_name)

    def delete(self, it: Managed) -> None:
        it.client("apigateway").delete_rest_api(restApiId=it.external_name)

    @staticmethod
    def _put_body(it: Managed, api_id: str) -> None:
        body = it.spec["body"]
        it.client("apigateway").put_rest_api(restApiId=api_id, mode="overwrite", body=body.encode())
        it.aws.records[it.kind, api_id] = body


class _Deployment(External):
    immutable = frozenset({"restApiId"})

    def observe(self, it: Managed) -> Observation | None:
        api = it.spec["restApiId"]
        # Not by the call for one: the emulator fails when there is none.
        deployments = it.client("apigateway").get_deployments(restApiId=api)["items"]
        there = any(deployment["id"] == it.external_name for deployment in deployments)
        return {"id": it.external_name, "restApiId": api} if there else None

    def create(self, it: Managed) -> str:
        deployment_id: str = it.client("apigateway").create_deployment(restApiId=it.spec["restApiId"])["id"]
        return deployment_id

    def delete(self, it: Managed) -> None:
        api, gateway = it.spec["restApiId"], it.client("apigateway")
        if any(stage["deploymentId"] == it.external_name for stage in gateway.get_stages(restApiId=api)["item"]):
            raise Refused("Active stages pointing to this deployment must be moved or deleted")
        gateway.delete_deployment(restApiId=api, deploymentId=it.external_name)


class _Stage(External):
    addressed = True
    immutable = frozenset({"restApiId", "stageName"})

    def observe(self, it: Managed) -> Observation:
        found = it.client("apigateway").get_stage(**self._place(it))
        api, name = it.spec["restApiId"], it.spec["stageName"]
        return {
            "id": f"ags-{api}-{name}",
            "arn": f"arn:aws:apigateway:{it.region}::/restapis/{api}/stages/{name}",
            "restApiId": api,
            "stageName": name,
            "deploymentId": found["deploymentId"],
            "xrayTracingEnabled": found.get("tracingEnabled", False),
        }

    def create(self, it: Managed) -> str:
        it.client("apigateway").create_stage(
            **self._place(it),
            deploymentId=it.spec["deploymentId"],
            tracingEnabled=it.spec.get("xrayTracingEnabled", False),
        )
        return f"ags-{it.spec['restApiId']}-{it.spec['stageName']}"

    def update(self, it: Managed) -> None:
        tracing = it.spec.get("xrayTracingEnabled", False)
        operations = [_replace("/deploymentId", it.spec["deploymentId"]), _replace("/tracingEnabled", tracing)]
        it.client("apigateway").update_stage(**self._place(it), patchOperations=operations)

    def delete(self, it: Managed) -> None:
        api, name, gateway = it.spec["restApiId"], it.spec["stageName"], it.client("apigateway")
        plans = [plan for page in gateway.get_paginator("get_usage_plans").paginate() for plan in page["items"]]
        used = [plan["id"] for plan in plans for stage in plan["apiStages"] if _place_of(stage) == f"{api}:{name}"]
        if used:
            raise Refused(f"Active stages with usage plans associated must be moved or deleted: {', '.join(used)}")
        gateway.delete_stage(**self._place(it))

    @staticmethod
    def _place(it: Managed) -> dict[str, str]:
        return {"restApiId": it.spec["restApiId"], "stageName": it.spec["stageName"]}


#: The settings of methods, and where a stage has them.
_METHOD_SETTINGS = {
    "metricsEnabled": "metrics/enabled",
    "loggingLevel": "logging/loglevel",
    "throttlingRateLimit": "throttling/rateLimit",
    "throttlingBurstLimit": "throttling/burstLimit",
}


class _MethodSettings(External):
    addressed = True
    immutable = frozenset({"restApiId", "stageName", "methodPath"})

    def observe(self, it: Managed) -> Observation | None:
        stage, path = self._stage(it), it.spec["methodPath"]
        settings = it.client("apigateway").get_stage(**stage).get("methodSettings", {}).get(path)
        # The emulator takes no settings away: whether these are there has to be remembered.
        if settings is None or (it.kind, self._id(it)) not in it.aws.records:
            return None
        return {
            "id": self._id(it),
            **stage,
            "methodPath": path,
            "settings": picked(settings, _METHOD_SETTINGS),
        }

    def create(self, it: Managed) -> str:
        stage, path = self._stage(it), it.spec["methodPath"]
        operations = [
            _replace(f"/{path}/{_METHOD_SETTINGS[name]}", value) for name, value in it.spec["settings"].items()
        ]
        it.client("apigateway").update_stage(**stage, patchOperations=operations)
        it.aws.records[it.kind, self._id(it)] = True
        return self._id(it)

    def delete(self, it: Managed) -> None:
        operation = {"op": "remove", "path": f"/{it.spec['methodPath']}"}
        it.client("apigateway").update_stage(**self._stage(it), patchOperations=[operation])
        it.aws.records.pop((it.kind, self._id(it)), None)

    @staticmethod
    def _id(it: Managed) -> str:
        return "-".join((it.spec["restApiId"], it.spec["stageName"], it.spec["methodPath"]))

    @staticmethod
    def _stage(it: Managed) -> dict[str, str]:
        return {"restApiId": it.spec["restApiId"], "stageName": it.spec["stageName"]}


class _ApiKey(External):
    immutable = frozenset({"valueSecretRef"})
    defaults = {"enabled": True}

    def observe(self, it: Managed) -> Observation:
        found = it.client("apigateway").get_api_key(apiKey=it.external_name)
        return {"id": it.external_name, **picked(found, ("name", "description", "enabled"))}

    def differences(self, it: Managed) -> list[str]:
        """The fields that AWS has otherwise; the key's value is compared, and shown to nobody."""
        value = it.client("apigateway").get_api_key(apiKey=it.external_name, includeValue=True)["value"]
        changed = [] if self._value(it).get("value", value) == value else ["valueSecretRef"]
        return [*super().differences(it), *changed]

    def create(self, it: Managed) -> str:
        key_id: str = it.client("apigateway").create_api_key(**self._value(it), **self._shown(it))["id"]
        return key_id

    def update(self, it: Managed) -> None:
        operations = [_replace(f"/{name}", value) for name, value in self._shown(it).items()]
        it.client("apigateway").update_api_key(apiKey=it.external_name, patchOperations=operations)

    def delete(self, it: Managed) -> None:
        it.client("apigateway").delete_api_key(apiKey=it.external_name)

    @staticmethod
    def _shown(it: Managed) -> dict[str, Any]:
        description, enabled = it.spec.get("description", ""), it.spec.get("enabled", True)
        return {"name": it.spec["name"], "description": description, "enabled": enabled}

    @staticmethod
    def _value(it: Managed) -> dict[str, str]:
        """The key's value; a Secret that is not there is passed over (upjet#651), and AWS makes a value up."""
        reference = it.spec["valueSecretRef"]
        value = it.secrets.get((reference["name"], reference["key"]))
        return {} if value is None else {"value": value}


class _UsagePlan(External):
    defaults = {"quotaSettings": None, "throttleSettings": None}

    def observe(self, it: Managed) -> Observation:
        found = it.client("apigateway").get_usage_plan(usagePlanId=it.external_name)
        throttle, quota = found.get("throttle"), found.get("quota")
        return {
            "id": it.external_name,
            "arn": f"arn:aws:apigateway:{it.region}::/usageplans/{it.external_name}",
            "name": found["name"],
            "apiStages": [picked(stage, ("apiId", "stage")) for stage in found["apiStages"]],
            "throttleSettings": picked(throttle, ("rateLimit", "burstLimit")) if throttle else None,
            "quotaSettings": {"limit": int(quota["limit"]), "period": quota["period"]} if quota else None,
        }

    def create(self, it: Managed) -> str:
        limits = {"throttle": it.spec.get("throttleSettings"), "quota": _quota(it)}
        answer = it.client("apigateway").create_usage_plan(
            name=it.spec["name"],
            apiStages=[picked(stage, ("apiId", "stage")) for stage in it.spec["apiStages"]],
            **{name: value for name, value in limits.items() if value},
        )
        plan_id: str = answer["id"]
        return plan_id

    def update(self, it: Managed) -> None:
        operations = list(self._operations(it))
        it.client("apigateway").update_usage_plan(usagePlanId=it.external_name, patchOperations=operations)

    def delete(self, it: Managed) -> None:
        it.client("apigateway").delete_usage_plan(usagePlanId=it.external_name)

    @staticmethod
    def _operations(it: Managed) -> Iterator[dict[str, str]]:
        yield _replace("/name", it.spec["name"])
        old = {_place_of(stage) for stage in it.observed["apiStages"]}
        new = {_place_of(stage) for stage in it.spec["apiStages"]}
        yield from ({"op": "remove", "path": "/apiStages", "value": place} for place in sorted(old - new))
        yield from ({"op": "add", "path": "/apiStages", "value": place} for place in sorted(new - old))
        for name, limits in (("throttle", it.spec.get("throttleSettings")), ("quota", _quota(it))):
            if limits:
                yield from (_replace(f"/{name}/{limit}", value) for limit, value in limits.items())
            else:
                yield {"op": "remove", "path": f"/{name}"}


class _UsagePlanKey(External):
    immutable = frozenset({"keyId", "keyType", "usagePlanId"})

    def observe(self, it: Managed) -> Observation:
        place = self._place(it)
        found = it.client("apigateway").get_usage_plan_key(**place)
        return {"id": found["id"], **place, "keyType": found["type"], **picked(found, ("name", "value"))}

    def create(self, it: Managed) -> str:
        it.client("apigateway").create_usage_plan_key(**self._place(it), keyType=it.spec["keyType"])
        key_id: str = it.spec["keyId"]
        return key_id

    def delete(self, it: Managed) -> None:
        it.client("apigateway").delete_usage_plan_key(**self._place(it))

    @staticmethod
    def _place(it: Managed) -> dict[str, str]:
        return {"usagePlanId": it.spec["usagePlanId"], "keyId": it.spec["keyId"]}


def _quota(plan: Managed) -> dict[str, Any] | None:
    quota = plan.spec.get("quotaSettings")
    return quota and {**quota, "limit": int(quota["limit"])}


def _place_of(stage: dict[str, Any]) -> str:
    return f"{stage['apiId']}:{stage['stage']}"


def _replace(path: str, value: Any) -> dict[str, str]:
    """A patch operation. API Gateway's values are texts."""
    return {"op": "replace", "path": path, "value": value if isinstance(value, str) else json.dumps(_whole(value))}


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


KINDS: dict[str, External] = {
    "APIKey": _ApiKey(),
    "Deployment": _Deployment(),
    "MethodSettings": _MethodSettings(),
    "RestAPI": _RestApi(),
    "Stage": _Stage(),
    "UsagePlan": _UsagePlan(),
    "UsagePlanKey": _UsagePlanKey(),
}
