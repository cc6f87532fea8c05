"""Lambda: functions, and who may invoke them."""

from __future__ import annotations

import json
from typing import Any

from darkroom.local.kinds.external import External, Managed, Observation, capitalised, uncapitalised


class _Function(External):
    named = True
    immutable = frozenset({"packageType"})
    defaults = {"reservedConcurrentExecutions": -1}

    def observe(self, it: Managed) -> Observation:
        name = {"FunctionName": it.external_name}
        answer = it.client("lambda").get_function(**name)
        found = answer["Configuration"]
        concurrency = it.client("lambda").get_function_concurrency(**name)
        logging = it.aws.records.get((it.kind, it.external_name))
        return {
            "id": it.external_name,
            "arn": found["FunctionArn"],
            "packageType": found["PackageType"],
            "imageUri": answer["Code"]["ImageUri"],
            "architectures": found["Architectures"],
            "role": found["Role"],
            "memorySize": found["MemorySize"],
            "timeout": found["Timeout"],
            "environment": {"variables": found.get("Environment", {}).get("Variables", {})},
            "tracingConfig": uncapitalised(found.get("TracingConfig")),
            "loggingConfig": logging,
            "reservedConcurrentExecutions": concurrency.get("ReservedConcurrentExecutions", -1),
        }

    def create(self, it: Managed) -> str:
        it.client("lambda").create_function(
            FunctionName=it.external_name,
            PackageType=it.spec["packageType"],
            Code={"ImageUri": it.spec["imageUri"]},
            Architectures=it.spec["architectures"],
            **self._configuration(it),
        )
        self._reserve(it)
        return it.external_name

    def update(self, it: Managed) -> None:
        client, name = it.client("lambda"), it.external_name
        if it.spec["imageUri"] != it.observed["imageUri"]:
            client.update_function_code(FunctionName=name, ImageUri=it.spec["imageUri"])
        client.update_function_configuration(FunctionName=name, **self._configuration(it))
        self._reserve(it)

    def delete(self, it: Managed) -> None:
        it.client("lambda").delete_function(FunctionName=it.external_name)

    @staticmethod
    def _configuration(it: Managed) -> dict[str, Any]:
        # The emulator has no place for how a function logs.
        it.aws.records[it.kind, it.external_name] = it.spec.get("loggingConfig")
        return {
            "Role": it.spec["role"],
            "Timeout": int(it.spec["timeout"]),
            "MemorySize": int(it.spec["memorySize"]),
            "Environment": {"Variables": it.spec["environment"]["variables"]},
            "TracingConfig": capitalised(it.spec["tracingConfig"]),
        }

    @staticmethod
    def _reserve(it: Managed) -> None:
        client, reserved = it.client("lambda"), it.spec.get("reservedConcurrentExecutions", -1)
        if reserved < 0:
            client.delete_function_concurrency(FunctionName=it.external_name)
        else:
            client.put_function_concurrency(FunctionName=it.external_name, ReservedConcurrentExecutions=int(reserved))


class _Permission(External):
    immutable = frozenset({"functionName", "statementId", "action", "principal", "sourceArn"})

    def observe(self, it: Managed) -> Observation | None:
        policy = json.loads(it.client("lambda").get_policy(FunctionName=it.spec["functionName"])["Policy"])
        found = next((each for each in policy["Statement"] if each["Sid"] == it.spec["statementId"]), None)
        if found is None:
            return None
        return {
            "id": found["Sid"],
            "functionName": it.spec["functionName"],
            "statementId": found["Sid"],
            "action": found["Action"],
            "principal": found["Principal"]["Service"],
            "sourceArn": found.get("Condition", {}).get("ArnLike", {}).get("AWS:SourceArn"),
        }

    def create(self, it: Managed) -> str:
        it.client("lambda").add_permission(
            FunctionName=it.spec["functionName"],
            StatementId=it.spec["statementId"],
            Action=it.spec["action"],
            Principal=it.spec["principal"],
            SourceArn=it.spec["sourceArn"],
        )
        statement: str = it.spec["statementId"]
        return statement

    def delete(self, it: Managed) -> None:
        it.client("lambda").remove_permission(FunctionName=it.spec["functionName"], StatementId=it.spec["statementId"])


KINDS: dict[str, External] = {"Function": _Function(), "Permission": _Permission()}
