"""Who may do what in AWS before anything runs: boundaries, the role of Spot, and the identities of Crossplane."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from darkroom.bootstrap.iam import TAG, Policy, Role
from darkroom.bootstrap.steps import Context
from darkroom_contract.names import Actor
from darkroom_function import boundary, provider_permissions
from darkroom_function.apis import ServiceAccount
from darkroom_function.identity import trusting_pods
from darkroom_function.policy import Statement, allow, document

if TYPE_CHECKING:
    from types_boto3_eks.type_defs import PodIdentityAssociationTypeDef

_CROSSPLANE = "crossplane-system"


def policies(context: Context) -> list[Policy]:
    """The permissions boundaries of a cluster: of the roles that the compositions make, and of who makes them."""
    names, cluster = context.names, context.cluster
    texts = boundary.documents(cluster)
    documents = {names.permissions_boundary_arn(actor): texts[names.permissions_boundary(actor)] for actor in Actor}
    documents[names.own_policy_arn(names.provider_boundary)] = document(*provider_permissions.boundary(cluster))
    return [Policy(arn, text, cluster.name) for arn, text in documents.items()]


@dataclass(frozen=True)
class Boundaries:
    """The permissions boundaries, without which AWS refuses the roles that name them."""

    context: Context

    @property
    def title(self) -> str:
        """How many there are, and where."""
        return f"{len(policies(self.context))} permissions boundaries under {self.context.names.role_path}"

    def is_done(self) -> bool:
        """Whether each says what the cluster's file asks for."""
        iam = self.context.iam
        return all(policy.is_there(iam) for policy in policies(self.context))

    def do(self) -> None:
        """Make them, or a new version of those that say something else."""
        iam = self.context.iam
        for policy in policies(self.context):
            policy.make(iam)

    def undo(self) -> None:
        """Take them away; no role must be left that names one."""
        iam = self.context.iam
        for policy in policies(self.context):
            policy.remove(iam)


@dataclass(frozen=True)
class ServiceLinkedRole:
    """The role by which a service of AWS acts in an account, which has one. Who uses the service may not make it."""

    context: Context
    title: str
    service: str

    def is_done(self) -> bool:
        """Whether the account has it."""
        iam = self.context.iam
        return bool(iam.list_roles(PathPrefix=f"/aws-service-role/{self.service}/")["Roles"])

    def do(self) -> None:
        """Have AWS make it."""
        self.context.iam.create_service_linked_role(AWSServiceName=self.service)

    def undo(self) -> None:
        """Nothing: it is the account's, costs nothing, and others may need it."""


@dataclass(frozen=True)
class PodIdentity:
    """A role of the pods of one of Crossplane's service accounts, and their association in EKS."""

    context: Context
    title: str
    account: str
    role: Role

    @cached_property
    def _place(self) -> dict[str, str]:
        eks_name = self.context.cluster.eks_name
        return {"clusterName": eks_name, "namespace": _CROSSPLANE, "serviceAccount": self.account}

    def is_done(self) -> bool:
        """Whether the role is as it has to be, and the pods have it."""
        if not self.role.is_there(self.context.iam) or self.context.eks() is None:
            return False
        return self._role_of(self._association()) == self._role_arn

    def do(self) -> None:
        """Make the role, and then the association, or turn it to the role."""
        self.role.make(self.context.iam)
        eks, association = self.context.eks_client, self._association()
        if association is None:
            self.context.wait("EKS sees the role", self._associate)
        elif self._role_of(association) != self._role_arn:
            eks.update_pod_identity_association(
                clusterName=self.context.cluster.eks_name,
                associationId=association["associationId"],
                roleArn=self._role_arn,
            )

    def undo(self) -> None:
        """Take both away."""
        association = self._association() if self.context.eks() else None
        if association is not None:
            self.context.eks_client.delete_pod_identity_association(
                clusterName=self.context.cluster.eks_name, associationId=association["associationId"]
            )
        self.role.remove(self.context.iam)

    @property
    def _role_arn(self) -> str:
        return self.context.names.own_role_arn(self.role.name)

    def _associate(self) -> bool:
        """Make the association; False as long as EKS does not know the role yet: IAM tells it some seconds later."""
        eks, tags = self.context.eks_client, {TAG: self.context.cluster.name}
        try:
            eks.create_pod_identity_association(**self._place, roleArn=self._role_arn, tags=tags)  # type: ignore[arg-type]
        except eks.exceptions.InvalidParameterException as error:
            if "does not exist" not in str(error):
                raise
            return False
        return True

    def _association(self) -> "PodIdentityAssociationTypeDef | None":
        eks = self.context.eks_client
        found = eks.list_pod_identity_associations(**self._place)["associations"]  # type: ignore[arg-type]
        if not found:
            return None
        cluster = self.context.cluster.eks_name
        of_one = eks.describe_pod_identity_association(clusterName=cluster, associationId=found[0]["associationId"])
        return of_one["association"]

    def _role_of(self, association: "PodIdentityAssociationTypeDef | None") -> str | None:
        return association["roleArn"] if association else None


def service_linked_roles(context: Context) -> list[ServiceLinkedRole]:
    """That by which EC2 starts Spot instances, and EFS' where the models are on it."""
    roles = [ServiceLinkedRole(context, "Spot's service-linked role", "spot.amazonaws.com")]
    if context.cluster.models.efs:
        roles.append(ServiceLinkedRole(context, "EFS' service-linked role", "elasticfilesystem.amazonaws.com"))
    return roles


def provider(context: Context) -> PodIdentity:
    """The identity of Crossplane's AWS providers, which make all else of the cluster."""
    names = context.names
    permissions = provider_permissions.provider(context.cluster)
    fence = names.own_policy_arn(names.provider_boundary)
    role = _role(context, names.provider_role, "provider-aws", permissions, fence)
    return PodIdentity(context, "The identity of Crossplane's AWS providers", "provider-aws", role)


def crossplane(context: Context) -> PodIdentity:
    """The identity of Crossplane's core, which itself pulls the function's package from ECR."""
    names = context.names
    pulls = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    permissions = [
        allow("LogIn", ["ecr:GetAuthorizationToken"], ["*"]),
        allow("PullPackages", pulls, [names.image_repository_arn("function")]),
    ]
    role = _role(context, names.crossplane_role, "crossplane", permissions)
    return PodIdentity(context, "The identity of Crossplane's core", "crossplane", role)


def _role(
    context: Context, name: str, account: str, permissions: Iterable[Statement], boundary: str | None = None
) -> Role:
    cluster = context.cluster
    trust = trusting_pods(cluster.location, ServiceAccount(namespace=_CROSSPLANE, name=account))
    return Role(
        name,
        context.names.own_path,
        document(trust),
        cluster.name,
        policies={"permissions": document(*permissions)},
        boundary=boundary,
    )
