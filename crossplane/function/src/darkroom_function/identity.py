"""IAM roles, and the pods that may use them. Pure."""

from collections.abc import Iterator, Sequence

from darkroom_contract.cluster import Location
from darkroom_contract.names import Actor, Names
from darkroom_function import policy
from darkroom_function.apis import ServiceAccount
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed, Observed, Owner, keyed
from darkroom_function.policy import Statement


def role(
    owner: Owner,
    names: Names,
    actor: Actor,
    name: str,
    trust: Statement,
    permissions: Sequence[Statement] = (),
    *,
    prefix: str = "",
) -> Iterator[Managed]:
    """A role, within the cluster's path and the actor's permissions boundary, and its policy if it has one.

    ``prefix`` begins the keys: a composite may have several roles.
    """
    yield owner.managed(
        Kind.ROLE,
        f"{prefix}role",
        {
            "path": names.role_path,
            "permissionsBoundary": names.permissions_boundary_arn(actor),
            "assumeRolePolicy": policy.document(trust),
            # AWS deletes no role that somebody attached a policy to.
            "forceDetachPolicies": True,
        },
        external_name=name,
    )
    if permissions:
        yield owner.managed(
            Kind.ROLE_POLICY, f"{prefix}role-policy", {"role": name, "policy": policy.document(*permissions)}
        )


def pod_identity(
    owner: Owner, cluster: Location, account: ServiceAccount, role: str, observed: Observed, *, prefix: str = ""
) -> Iterator[Managed]:
    """That the pods of a service account of the EKS cluster have a role, which trusts them, by its name."""
    association = owner.managed(
        Kind.POD_IDENTITY_ASSOCIATION,
        keyed(f"{prefix}pod-identity", cluster.eks_name, account.namespace, account.name),
        {
            "clusterName": cluster.eks_name,
            "namespace": account.namespace,
            "serviceAccount": account.name,
            "roleArn": cluster.names.role_arn(role),
        },
    )
    yield from owner.replacing(association, observed)


def trusting_pods(cluster: Location, account: ServiceAccount) -> Statement:
    """The trust of a role for the pods of one service account of the EKS cluster, and for nobody else."""
    # EKS user guide, "Create IAM role with trust policy required by EKS Pod Identity": EKS says by session tags for
    # whom it assumes the role.
    return policy.allow(
        "AllowPodIdentity",
        ["sts:AssumeRole", "sts:TagSession"],
        service="pods.eks.amazonaws.com",
        conditions={
            "StringEquals": {
                "aws:RequestTag/eks-cluster-arn": cluster.names.eks_cluster_arn(cluster.eks_name),
                "aws:RequestTag/kubernetes-namespace": account.namespace,
                "aws:RequestTag/kubernetes-service-account": account.name,
            }
        },
    )
