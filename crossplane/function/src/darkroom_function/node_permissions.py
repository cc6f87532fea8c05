"""What Karpenter and the nodes that it starts may do: the statements of their policies. Pure."""

from collections.abc import Iterator

from darkroom_contract.names import Actor, Names
from darkroom_function.policy import Conditions, Statement, allow

#: AWS's own policies that a node's role has. Not among them: the CNI plugin's rights over network interfaces, which
#: whoever reaches a node's credentials would have too. The plugin has a pod identity of its own, made with the EKS
#: cluster, since no pod has an address without it.
NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore")

#: What Karpenter makes, and tags as the cluster's.
_MADE = ("fleet/*", "instance/*", "launch-template/*", "network-interface/*", "spot-instances-request/*", "volume/*")
#: What it makes them of.
_GIVEN = ("capacity-reservation/*", "placement-group/*", "security-group/*", "subnet/*")
_PUBLISHED = ("image/*", "snapshot/*")


def karpenter(names: Names, eks_name: str) -> list[Statement]:
    """What the Karpenter controller may do for one EKS cluster; ``eks_name`` is EKS's own name of it.

    It is what Karpenter's CloudFormation template allows (karpenter.sh, v1.14, "Reference", "CloudFormation"), but

    - with resources of the cluster's own account, where the template takes those of any: a subnet that another account
      shares cannot be used;
    - without making, changing and deleting instance profiles: the nodes' profile is made beside their role;
    - without asking about zonal shifts, which Karpenter's chart leaves off.
    """
    return [
        *_start_nodes(names, eks_name),
        *_end_nodes(names, eks_name),
        *_know_the_offer(names),
        *_give_nodes_their_role(names, eks_name),
        allow("FindCluster", ["eks:DescribeCluster"], [names.eks_cluster_arn(eks_name)]),
        allow(
            "HearOfInterruptions",
            ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"],
            [names.queue_arn(names.interruption_queue)],
        ),
    ]


def _start_nodes(names: Names, eks_name: str) -> Iterator[Statement]:
    start = ["ec2:CreateFleet", "ec2:RunInstances"]
    made = [names.ec2_arn(resource) for resource in _MADE]
    asked_for = {
        f"aws:RequestTag/kubernetes.io/cluster/{eks_name}": "owned",
        "aws:RequestTag/eks:eks-cluster-name": eks_name,
    }
    of_a_pool: Conditions = {"aws:RequestTag/karpenter.sh/nodepool": "*"}
    published = [names.ec2_arn(resource, owned=False) for resource in _PUBLISHED]
    yield allow("StartOfGiven", start, [*published, *(names.ec2_arn(resource) for resource in _GIVEN)])
    yield allow("StartOfTemplates", start, [names.ec2_arn("launch-template/*")], conditions=_owned(eks_name))
    yield allow(
        "Start",
        ["ec2:CreateFleet", "ec2:CreateLaunchTemplate", "ec2:RunInstances"],
        made,
        conditions={"StringEquals": {**asked_for}, "StringLike": of_a_pool},
    )
    made_by: Conditions = {"ec2:CreateAction": ["CreateFleet", "CreateLaunchTemplate", "RunInstances"]}
    yield allow(
        "TagWhatStarts",
        ["ec2:CreateTags"],
        made,
        conditions={"StringEquals": {**asked_for, **made_by}, "StringLike": of_a_pool},
    )
    yield allow(
        "NameNodes",
        ["ec2:CreateTags"],
        [names.ec2_arn("instance/*")],
        conditions={
            **_owned(eks_name),
            "StringEqualsIfExists": {"aws:RequestTag/eks:eks-cluster-name": eks_name},
            "ForAllValues:StringEquals": {"aws:TagKeys": ["Name", "eks:eks-cluster-name", "karpenter.sh/nodeclaim"]},
        },
    )


def _end_nodes(names: Names, eks_name: str) -> Iterator[Statement]:
    yield allow(
        "End",
        ["ec2:DeleteLaunchTemplate", "ec2:TerminateInstances"],
        [names.ec2_arn("instance/*"), names.ec2_arn("launch-template/*")],
        conditions=_owned(eks_name),
    )


def _owned(eks_name: str) -> Conditions:
    """That a resource is tagged as Karpenter tags what it makes for the cluster."""
    return {
        "StringEquals": {f"aws:ResourceTag/kubernetes.io/cluster/{eks_name}": "owned"},
        "StringLike": {"aws:ResourceTag/karpenter.sh/nodepool": "*"},
    }


def _know_the_offer(names: Names) -> Iterator[Statement]:
    described = (
        *("CapacityReservations", "Images", "InstanceStatus", "InstanceTypeOfferings", "InstanceTypes", "Instances"),
        *("LaunchTemplates", "PlacementGroups", "SecurityGroups", "SpotPriceHistory", "Subnets"),
    )
    # EC2 knows no resources for these, nor does the price list, which is in another region.
    yield allow(
        "Describe",
        [f"ec2:Describe{what}" for what in described],
        ["*"],
        conditions={"StringEquals": {"aws:RequestedRegion": names.region}},
    )
    yield allow("ReadPrices", ["pricing:GetProducts"], ["*"])
    yield allow("FindImages", ["ssm:GetParameter"], [names.public_parameters_arn])


def _give_nodes_their_role(names: Names, eks_name: str) -> Iterator[Statement]:
    yield allow(
        "PassNodeRole",
        ["iam:PassRole"],
        [names.role_arn(names.role(Actor.NODE))],
        conditions={"StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]}},
    )
    # Karpenter looks for profiles of its own making, every half hour and before it lets an EC2NodeClass go: under its
    # path, and by the name that its older versions gave them.
    yield allow(
        "LookForProfiles",
        ["iam:ListInstanceProfiles"],
        [names.instance_profile_arn(f"karpenter/{names.region}/{eks_name}/*")],
    )
    yield allow("LookForOldProfiles", ["iam:GetInstanceProfile"], [names.instance_profile_arn(f"{eks_name}_*")])


def node(names: Names, eks_name: str) -> list[Statement]:
    """What a node may do of all that ``NODE_POLICIES`` allow.

    Not among it: to read parameters, which AmazonSSMManagedInstanceCore allows for every one of the account; and to
    look at, or to get pods' credentials for, other EKS clusters.
    """
    described = (
        *("InstanceTypes", "Instances", "RouteTables", "SecurityGroups", "Subnets"),
        *("Volumes", "VolumesModifications", "Vpcs"),
    )
    pulled = ("BatchGetImage", "BatchImportUpstreamImage", "GetAuthorizationToken", "GetDownloadUrlForLayer")
    cluster = names.eks_cluster_arn(eks_name)
    return [
        allow("JoinCluster", ["eks-auth:AssumeRoleForPodIdentity", "eks:DescribeCluster"], [cluster]),
        allow("Describe", [f"ec2:Describe{what}" for what in described], ["*"]),
        # EKS has its images in accounts of its own.
        allow("PullImages", [f"ecr:{action}" for action in pulled], ["*"]),
        allow("BeManaged", [*_systems_manager_agent()], ["*"]),
    ]


def _systems_manager_agent() -> Iterator[str]:
    """What lets a person open a shell on a node, with no port open and no key on it."""
    documents = ("DescribeAssociation", "DescribeDocument", "GetDeployablePatchSnapshotForInstance", "GetDocument")
    lists = ("GetManifest", "ListAssociations", "ListInstanceAssociations")
    reports = ("PutComplianceItems", "PutConfigurePackageResult", "PutInventory")
    updates = ("UpdateAssociationStatus", "UpdateInstanceAssociationStatus", "UpdateInstanceInformation")
    messages = ("AcknowledgeMessage", "DeleteMessage", "FailMessage", "GetEndpoint", "GetMessages", "SendReply")
    channels = ("CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel")
    yield from (f"ssm:{action}" for action in (*documents, *lists, *reports, *updates))
    yield from (f"ec2messages:{action}" for action in messages)
    yield from (f"ssmmessages:{action}" for action in channels)
