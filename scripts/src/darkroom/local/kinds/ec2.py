"""EC2: security groups, and what they let in."""

from __future__ import annotations

from typing import Any

from darkroom.local.kinds.external import External, Managed, Observation, tag_list, tag_map


class _SecurityGroup(External):
    immutable = frozenset({"name", "description", "vpcId"})

    def observe(self, it: Managed) -> Observation:
        (found,) = it.client("ec2").describe_security_groups(GroupIds=[it.external_name])["SecurityGroups"]
        return {
            "id": it.external_name,
            "arn": it.arn("ec2", f"security-group/{it.external_name}"),
            "name": found["GroupName"],
            "description": found["Description"],
            "vpcId": found["VpcId"],
            "tags": tag_map(found.get("Tags", ())),
        }

    def create(self, it: Managed) -> str:
        group_id: str = it.client("ec2").create_security_group(
            GroupName=it.spec["name"], Description=it.spec["description"], VpcId=it.spec["vpcId"]
        )["GroupId"]
        self._tag(it, group_id)
        return group_id

    def update(self, it: Managed) -> None:
        self._tag(it, it.external_name)

    def delete(self, it: Managed) -> None:
        it.client("ec2").delete_security_group(GroupId=it.external_name)

    @staticmethod
    def _tag(it: Managed, group_id: str) -> None:
        tags = it.spec.get("tags")
        if tags:
            it.client("ec2").create_tags(Resources=[group_id], Tags=tag_list(tags))


class _IngressRule(External):
    immutable = frozenset({"securityGroupId"})

    def observe(self, it: Managed) -> Observation:
        answer = it.client("ec2").describe_security_group_rules(SecurityGroupRuleIds=[it.external_name])
        (found,) = answer["SecurityGroupRules"]
        return {
            "id": it.external_name,
            "securityGroupRuleId": it.external_name,
            "securityGroupId": found["GroupId"],
            # The emulator does not say how a rule is described.
            "ipProtocol": found["IpProtocol"],
            "fromPort": found["FromPort"],
            "toPort": found["ToPort"],
            "referencedSecurityGroupId": found.get("ReferencedGroupInfo", {}).get("GroupId"),
        }

    def create(self, it: Managed) -> str:
        spec = it.spec
        source = {"GroupId": spec["referencedSecurityGroupId"], "Description": spec.get("description", "")}
        permission: dict[str, Any] = {**self._ports(it), "UserIdGroupPairs": [source]}
        answer = it.client("ec2").authorize_security_group_ingress(
            GroupId=spec["securityGroupId"], IpPermissions=[permission]
        )
        rule_id: str = answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return rule_id

    def update(self, it: Managed) -> None:
        rule = {
            **self._ports(it),
            "ReferencedGroupId": it.spec["referencedSecurityGroupId"],
            "Description": it.spec.get("description", ""),
        }
        it.client("ec2").modify_security_group_rules(
            GroupId=it.spec["securityGroupId"],
            SecurityGroupRules=[{"SecurityGroupRuleId": it.external_name, "SecurityGroupRule": rule}],
        )

    def delete(self, it: Managed) -> None:
        it.client("ec2").revoke_security_group_ingress(
            GroupId=it.spec["securityGroupId"], SecurityGroupRuleIds=[it.external_name]
        )

    @staticmethod
    def _ports(it: Managed) -> dict[str, Any]:
        return {
            "IpProtocol": it.spec["ipProtocol"],
            "FromPort": int(it.spec["fromPort"]),
            "ToPort": int(it.spec["toPort"]),
        }


KINDS: dict[str, External] = {"SecurityGroup": _SecurityGroup(), "SecurityGroupIngressRule": _IngressRule()}
