"""EventBridge: rules, and where what they match goes."""

from __future__ import annotations

from darkroom.local.kinds.external import External, Managed, Observation


class _Rule(External):
    named = True
    immutable = frozenset({"eventBusName"})
    defaults = {"state": "ENABLED"}

    def observe(self, it: Managed) -> Observation:
        found = it.client("events").describe_rule(**_bus(it), Name=it.external_name)
        return {
            "id": it.external_name,
            "arn": found["Arn"],
            "eventBusName": found["EventBusName"],
            "description": found.get("Description"),
            "eventPattern": found.get("EventPattern"),
            "state": found["State"],
        }

    def create(self, it: Managed) -> str:
        it.client("events").put_rule(
            **_bus(it),
            Name=it.external_name,
            EventPattern=it.spec["eventPattern"],
            Description=it.spec.get("description", ""),
            State=it.spec.get("state", "ENABLED"),
        )
        return it.external_name

    def delete(self, it: Managed) -> None:
        it.client("events").delete_rule(**_bus(it), Name=it.external_name)


class _Target(External):
    addressed = True
    immutable = frozenset({"eventBusName", "rule", "targetId"})

    def observe(self, it: Managed) -> Observation | None:
        rule, target = it.spec["rule"], it.spec["targetId"]
        targets = it.client("events").list_targets_by_rule(**_bus(it), Rule=rule)["Targets"]
        found = next((each for each in targets if each["Id"] == target), None)
        if found is None:
            return None
        place = {"eventBusName": it.spec["eventBusName"], "rule": rule, "targetId": target}
        return {"id": f"{rule}-{target}", **place, "arn": found["Arn"]}

    def create(self, it: Managed) -> str:
        rule, target = it.spec["rule"], it.spec["targetId"]
        it.client("events").put_targets(**_bus(it), Rule=rule, Targets=[{"Id": target, "Arn": it.spec["arn"]}])
        return f"{rule}-{target}"

    def delete(self, it: Managed) -> None:
        it.client("events").remove_targets(**_bus(it), Rule=it.spec["rule"], Ids=[it.spec["targetId"]])


def _bus(it: Managed) -> dict[str, str]:
    return {"EventBusName": it.spec["eventBusName"]}


KINDS: dict[str, External] = {"Rule": _Rule(), "Target": _Target()}
