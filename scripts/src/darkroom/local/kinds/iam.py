"""IAM: roles, the policies within them and attached to them, instance profiles."""

from __future__ import annotations

import json

from darkroom.local.kinds.external import External, Managed, Observation


class _Role(External):
    named = True
    immutable = frozenset({"path"})

    def observe(self, it: Managed) -> Observation:
        found = it.client("iam").get_role(RoleName=it.external_name)["Role"]
        return {
            "id": it.external_name,
            "arn": found["Arn"],
            "path": found["Path"],
            "assumeRolePolicy": json.dumps(found["AssumeRolePolicyDocument"]),
            "permissionsBoundary": found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        }

    def create(self, it: Managed) -> str:
        it.client("iam").create_role(
            RoleName=it.external_name,
            Path=it.spec["path"],
            AssumeRolePolicyDocument=it.spec["assumeRolePolicy"],
            PermissionsBoundary=it.spec["permissionsBoundary"],
        )
        return it.external_name

    def update(self, it: Managed) -> None:
        iam, name = it.client("iam"), it.external_name
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=it.spec["assumeRolePolicy"])
        iam.put_role_permissions_boundary(RoleName=name, PermissionsBoundary=it.spec["permissionsBoundary"])

    def delete(self, it: Managed) -> None:
        iam, name = it.client("iam"), it.external_name
        if it.spec.get("forceDetachPolicies"):
            for policy in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
                iam.delete_role_policy(RoleName=name, PolicyName=policy)
        iam.delete_role(RoleName=name)


class _RolePolicy(External):
    named = True
    immutable = frozenset({"role"})

    def observe(self, it: Managed) -> Observation:
        role, name = it.spec["role"], it.external_name
        found = it.client("iam").get_role_policy(RoleName=role, PolicyName=name)
        return {"id": f"{role}:{name}", "role": role, "policy": json.dumps(found["PolicyDocument"])}

    def create(self, it: Managed) -> str:
        role, name = it.spec["role"], it.external_name
        it.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=it.spec["policy"])
        return name

    def delete(self, it: Managed) -> None:
        it.client("iam").delete_role_policy(RoleName=it.spec["role"], PolicyName=it.external_name)


class _RolePolicyAttachment(External):
    immutable = frozenset({"role", "policyArn"})

    def observe(self, it: Managed) -> Observation | None:
        role, arn = it.spec["role"], it.spec["policyArn"]
        pages = it.client("iam").get_paginator("list_attached_role_policies").paginate(RoleName=role)
        attached = {policy["PolicyArn"] for page in pages for policy in page["AttachedPolicies"]}
        return {"id": f"{role}/{arn}", "role": role, "policyArn": arn} if arn in attached else None

    def create(self, it: Managed) -> str:
        role, arn = it.spec["role"], it.spec["policyArn"]
        it.client("iam").attach_role_policy(RoleName=role, PolicyArn=arn)
        return f"{role}/{arn}"

    def delete(self, it: Managed) -> None:
        it.client("iam").detach_role_policy(RoleName=it.spec["role"], PolicyArn=it.spec["policyArn"])


class _InstanceProfile(External):
    named = True
    immutable = frozenset({"path"})

    def observe(self, it: Managed) -> Observation:
        found = it.client("iam").get_instance_profile(InstanceProfileName=it.external_name)["InstanceProfile"]
        role = next((role["RoleName"] for role in found["Roles"]), None)
        return {"id": it.external_name, "arn": found["Arn"], "path": found["Path"], "role": role}

    def create(self, it: Managed) -> str:
        place = {"Path": it.spec["path"]} if "path" in it.spec else {}
        it.client("iam").create_instance_profile(InstanceProfileName=it.external_name, **place)
        self._take(it, it.spec["role"])
        return it.external_name

    def update(self, it: Managed) -> None:
        self._leave(it, it.observed["role"])
        self._take(it, it.spec["role"])

    def delete(self, it: Managed) -> None:
        self._leave(it, self.observe(it)["role"])
        it.client("iam").delete_instance_profile(InstanceProfileName=it.external_name)

    @staticmethod
    def _take(it: Managed, role: str) -> None:
        it.client("iam").add_role_to_instance_profile(InstanceProfileName=it.external_name, RoleName=role)

    @staticmethod
    def _leave(it: Managed, role: str | None) -> None:
        if role is not None:
            it.client("iam").remove_role_from_instance_profile(InstanceProfileName=it.external_name, RoleName=role)


KINDS: dict[str, External] = {
    "InstanceProfile": _InstanceProfile(),
    "Role": _Role(),
    "RolePolicy": _RolePolicy(),
    "RolePolicyAttachment": _RolePolicyAttachment(),
}
