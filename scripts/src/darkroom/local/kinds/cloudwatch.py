"""CloudWatch: alarms."""

from __future__ import annotations

from typing import Any

from darkroom.local.kinds.external import External, Managed, Observation

#: The fields of an alarm, and what CloudWatch calls those that it spells in another way.
_FIELDS = {
    name: {"okActions": "OKActions"}.get(name, name[0].upper() + name[1:])
    for name in (
        "alarmActions",
        "alarmDescription",
        "comparisonOperator",
        "datapointsToAlarm",
        "evaluationPeriods",
        "metricName",
        "namespace",
        "okActions",
        "period",
        "statistic",
        "threshold",
        "treatMissingData",
    )
}
_WHOLE = ("datapointsToAlarm", "evaluationPeriods", "period")


class _MetricAlarm(External):
    named = True

    def observe(self, it: Managed) -> Observation | None:
        alarms = it.client("cloudwatch").describe_alarms(AlarmNames=[it.external_name])["MetricAlarms"]
        if not alarms:
            return None
        (found,) = alarms
        return {
            "id": it.external_name,
            "arn": found["AlarmArn"],
            "dimensions": {each["Name"]: each["Value"] for each in found.get("Dimensions", ())},
            **{name: found.get(spelled) for name, spelled in _FIELDS.items()},
        }

    def create(self, it: Managed) -> str:
        wanted: dict[str, Any] = {**it.spec, **{name: int(it.spec[name]) for name in _WHOLE if name in it.spec}}
        dimensions = [{"Name": name, "Value": value} for name, value in it.spec["dimensions"].items()]
        it.client("cloudwatch").put_metric_alarm(
            AlarmName=it.external_name,
            Dimensions=dimensions,
            **{spelled: wanted[name] for name, spelled in _FIELDS.items() if name in wanted},
        )
        return it.external_name

    def delete(self, it: Managed) -> None:
        it.client("cloudwatch").delete_alarms(AlarmNames=[it.external_name])


KINDS: dict[str, External] = {"MetricAlarm": _MetricAlarm()}
