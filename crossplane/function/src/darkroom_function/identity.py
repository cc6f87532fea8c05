"""IAM roles. Pure."""

from collections.abc import Iterable

from darkroom_contract.names import Names
from darkroom_function import policy
from darkroom_function.managed import Kind, Managed, Owner
from darkroom_function.policy import Statement


def role(owner: Owner, names: Names, name: str, trust: Statement, permissions: Iterable[Statement]) -> list[Managed]:
    """A role, within the cluster's path and permissions boundary, and its policy."""
    return [
        owner.managed(
            Kind.ROLE,
            "role",
            {
                "path": names.role_path,
                "permissionsBoundary": names.permissions_boundary_arn,
                "assumeRolePolicy": policy.document(trust),
            },
            external_name=name,
        ),
        owner.managed(Kind.ROLE_POLICY, "role-policy", {"role": name, "policy": policy.document(*permissions)}),
    ]
