"""CloudWatch Logs: log groups."""

from __future__ import annotations

from darkroom.local.kinds.external import External, Managed, Observation


class _Group(External):
    named = True
    defaults = {"retentionInDays": None}

    def observe(self, it: Managed) -> Observation | None:
        answer = it.client("logs").describe_log_groups(logGroupNamePrefix=it.external_name)
        found = next((group for group in answer["logGroups"] if group["logGroupName"] == it.external_name), None)
        if found is None:
            return None
        retention = found.get("retentionInDays")
        return {"id": it.external_name, "arn": found["arn"].removesuffix(":*"), "retentionInDays": retention}

    def create(self, it: Managed) -> str:
        it.client("logs").create_log_group(logGroupName=it.external_name)
        self._retain(it)
        return it.external_name

    def update(self, it: Managed) -> None:
        self._retain(it)

    def delete(self, it: Managed) -> None:
        it.client("logs").delete_log_group(logGroupName=it.external_name)

    @staticmethod
    def _retain(it: Managed) -> None:
        logs, days = it.client("logs"), it.spec.get("retentionInDays")
        if days is None:
            logs.delete_retention_policy(logGroupName=it.external_name)
        else:
            logs.put_retention_policy(logGroupName=it.external_name, retentionInDays=int(days))


KINDS: dict[str, External] = {"Group": _Group()}
