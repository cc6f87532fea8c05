"""What Crossplane's AWS providers may do: all that the compositions ask for, and nothing else. Pure.

They cannot move their own fence: they make roles under the cluster's path alone, always with one of the cluster's
boundaries, and have no right over policies; their own role and boundary are under another path. Of policies that others
made they attach only those that nodes need. Nor can they lose data: nothing deletes a bucket or a file system, and of
objects only those of the registry are read or written.

What a provider asks AWS for is what Terraform's does for the kind (hashicorp/terraform-provider-aws), which reads more
than it was told to set. API Gateway names its resources by ids that it assigns: there, the fence is the region.
"""

from collections.abc import Iterator

from darkroom_contract.cluster import Cluster
from darkroom_contract.names import REGISTRY_PREFIX, WORKFLOWS_PREFIX, Actor, Bucket, Names
from darkroom_function.node_permissions import NODE_POLICIES
from darkroom_function.policy import Conditions, Statement, allow

#: By whom the cluster's roles are used: IAM asks whether a role may be handed to them.
_USERS_OF_ROLES = ("ec2.amazonaws.com", "eks.amazonaws.com", "lambda.amazonaws.com", "pods.eks.amazonaws.com")


#: A boundary has to be short (IAM: 6144 characters). These statements are fenced by their resources, and there they may
#: be of more actions.
_IN_SHORT = {
    "Alarms": ["cloudwatch:*"],
    "FileSystem": ["elasticfilesystem:*"],
    "Function": ["lambda:*"],
    "Gateway": ["apigateway:*"],
    "Log": ["logs:*"],
    "Network": ["ec2:*NetworkInterface*", "ec2:*SecurityGroup*", "ec2:CreateTags", "ec2:DeleteTags"],
    "Pods": [
        *("eks:*PodIdentityAssociation", "eks:*Tag*"),
        *("eks:De*AccessEntry", "eks:UpdateAccessEntry", "eks:DescribeCluster"),
    ],
    "Profiles": ["iam:*InstanceProfile*"],
    "Queues": ["sqs:*"],
    "Rules": ["events:*"],
    "Topics": ["sns:*"],
}


def boundary(cluster: Cluster) -> list[Statement]:
    """What the permissions of the providers of a cluster cannot go beyond, whoever changes them."""
    return [{**each, "Action": [*_IN_SHORT.get(str(each["Sid"]), _actions(each))]} for each in provider(cluster)]


def _actions(statement: Statement) -> list[str]:
    actions = statement["Action"]
    return [str(action) for action in actions] if isinstance(actions, list) else []


def provider(cluster: Cluster) -> list[Statement]:
    """What the providers of a cluster may do. With models on EFS it is more."""
    names = cluster.names
    return [
        *_messaging(names),
        *_buckets(names),
        *_identity(names),
        *_pods(cluster),
        *_api(names),
        *_events_and_alarms(names),
        *(_file_system(names) if cluster.models.efs else ()),
    ]


def _messaging(names: Names) -> Iterator[Statement]:
    topics, queues = names.topic_arn(f"{names.cluster}-*"), names.queue_arn(f"{names.cluster}-*")
    subscription = ("GetSubscriptionAttributes", "SetSubscriptionAttributes", "Unsubscribe")
    topic = ("CreateTopic", "DeleteTopic", "GetTopicAttributes", "SetTopicAttributes", "Subscribe")
    listed = ("ListSubscriptionsByTopic", "ListTagsForResource", "TagResource", "UntagResource")
    yield allow("Topics", [f"sns:{action}" for action in (*topic, *listed, *subscription)], [topics])
    queue = ("CreateQueue", "DeleteQueue", "GetQueueAttributes", "GetQueueUrl", "SetQueueAttributes")
    yield allow("Queues", [f"sqs:{action}" for action in (*queue, "ListQueueTags", "TagQueue", "UntagQueue")], [queues])


def _buckets(names: Names) -> Iterator[Statement]:
    buckets = [names.bucket_arn(names.bucket(bucket)) for bucket in Bucket]
    written = (
        *("s3:CreateBucket", "s3:PutBucketOwnershipControls", "s3:PutBucketPolicy", "s3:PutBucketPublicAccessBlock"),
        *("s3:PutBucketTagging", "s3:PutBucketVersioning", "s3:PutEncryptionConfiguration"),
        *("s3:PutLifecycleConfiguration", "s3:TagResource", "s3:UntagResource"),
    )
    # Terraform reads everything that a bucket has.
    yield allow("Buckets", [*written, "s3:GetBucket*", "s3:Get*Configuration", "s3:List*"], buckets)
    jobs = names.bucket(Bucket.JOBS)
    entries = [names.bucket_arn(jobs, f"{prefix}*") for prefix in (REGISTRY_PREFIX, WORKFLOWS_PREFIX)]
    actions = [f"s3:{verb}Object{what}" for verb in ("Get", "Put", "Delete") for what in ("", "Tagging")]
    yield allow("Registry", actions, entries)


def _identity(names: Names) -> Iterator[Statement]:
    roles, profiles = names.role_arn("*"), names.instance_profile_arn(f"{names.role_path[1:]}*")
    bounded: Conditions = {"ArnLike": {"iam:PermissionsBoundary": names.permissions_boundary_arns}}
    attached: Conditions = {"ArnEquals": {"iam:PolicyARN": [names.aws_policy_arn(policy) for policy in NODE_POLICIES]}}
    yield allow(
        "BoundedRoles",
        ["iam:CreateRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"],
        [roles],
        conditions=bounded,
    )
    yield allow("NodePolicies", ["iam:AttachRolePolicy"], [roles], conditions={**bounded, **attached})
    role = ("DeleteRole", "DeleteRolePolicy", "DetachRolePolicy", "GetRole", "GetRolePolicy", "TagRole", "UntagRole")
    listed = ("ListAttachedRolePolicies", "ListInstanceProfilesForRole", "ListRolePolicies", "ListRoleTags")
    changed = ("UpdateAssumeRolePolicy", "UpdateRole", "UpdateRoleDescription")
    yield allow("Roles", [f"iam:{action}" for action in (*role, *listed, *changed)], [roles])
    yield allow(
        "HandRoles", ["iam:PassRole"], [roles], conditions={"StringEquals": {"iam:PassedToService": [*_USERS_OF_ROLES]}}
    )
    profile = [f"iam:{verb}InstanceProfile" for verb in ("Create", "Delete", "Get", "Tag", "Untag")]
    members = ["iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:ListInstanceProfileTags"]
    yield allow("Profiles", [*profile, *members], [profiles])


def _pods(cluster: Cluster) -> Iterator[Statement]:
    names, eks = cluster.names, cluster.eks_name
    tagged = ("ListTagsForResource", "TagResource", "UntagResource")
    association = [f"eks:{verb}PodIdentityAssociation" for verb in ("Create", "Delete", "Describe", "Update")]
    entry = [f"eks:{verb}AccessEntry" for verb in ("Delete", "Describe", "Update")]
    nodes_entry = names.eks_arn(f"access-entry/{eks}/role/{names.account}/*{names.role(Actor.NODE)}/*")
    yield allow(
        "Pods",
        [*association, *entry, *(f"eks:{action}" for action in tagged), "eks:DescribeCluster"],
        [
            names.eks_cluster_arn(eks),
            names.eks_arn(f"podidentityassociation/{eks}/*"),
            nodes_entry,
        ],
    )
    # For the nodes alone: another entry could let anyone do anything in the cluster.
    nodes: Conditions = {
        "StringEquals": {"eks:accessEntryType": "EC2_LINUX"},
        "ArnEquals": {"eks:principalArn": names.role_arn(names.role(Actor.NODE))},
    }
    yield allow("LetNodesIn", ["eks:CreateAccessEntry"], [names.eks_cluster_arn(eks)], conditions=nodes)


def _api(names: Names) -> Iterator[Statement]:
    function = ("CreateFunction", "DeleteFunction", "UpdateFunctionCode", "UpdateFunctionConfiguration")
    concurrency = [f"lambda:{verb}FunctionConcurrency" for verb in ("Delete", "Get", "Put")]
    others = ("AddPermission", "GetPolicy", "ListTags", "ListVersionsByFunction", "RemovePermission")
    read = ("GetFunction", "GetFunctionCodeSigningConfig", "GetFunctionConfiguration", "GetFunctionRecursionConfig")
    tagged = ("TagResource", "UntagResource")
    actions = [f"lambda:{action}" for action in (*function, *read, *others, *tagged)]
    yield allow("Function", [*actions, *concurrency], [names.api_function_arn])
    # Lambda asks whether who makes a function may have its image.
    image = ("BatchGetImage", "GetDownloadUrlForLayer", "GetRepositoryPolicy")
    yield allow("FunctionImage", [f"ecr:{action}" for action in image], [names.image_repository_arn("api")])
    methods = [f"apigateway:{method}" for method in ("DELETE", "GET", "PATCH", "POST", "PUT")]
    paths = ("apikeys", "restapis", "tags", "usageplans")
    yield allow("Gateway", methods, [names.api_gateway_arn(f"/{path}*") for path in paths])
    group = ("CreateLogGroup", "DeleteLogGroup", "DeleteRetentionPolicy", "ListTagsForResource", "PutRetentionPolicy")
    log = names.log_group_arn(names.api_log_group)
    yield allow("Log", [f"logs:{action}" for action in (*group, *tagged)], [log, log.removesuffix(":*")])
    yield allow("FindLog", ["logs:DescribeLogGroups"], ["*"])


def _events_and_alarms(names: Names) -> Iterator[Statement]:
    tagged = ("ListTagsForResource", "TagResource", "UntagResource")
    rule = ("DeleteRule", "DescribeRule", "DisableRule", "EnableRule", "ListTargetsByRule", "PutRule")
    actions = [f"events:{action}" for action in (*rule, "PutTargets", "RemoveTargets", *tagged)]
    yield allow("Rules", actions, [names.event_rule_arn(f"{names.cluster}-*")])
    alarm = ("DeleteAlarms", "DescribeAlarms", "PutMetricAlarm")
    alarms = names.alarm_arn(f"{names.cluster}-*")
    yield allow("Alarms", [f"cloudwatch:{action}" for action in (*alarm, *tagged)], [alarms])


def _file_system(names: Names) -> Iterator[Statement]:
    """EFS and its security group have ids that AWS assigns; EFS makes network interfaces with its caller's rights."""
    efs = (
        *("CreateAccessPoint", "CreateMountTarget", "DeleteAccessPoint", "DeleteMountTarget"),
        *("DescribeAccessPoints", "DescribeFileSystems", "DescribeLifecycleConfiguration", "DescribeMountTargets"),
        *("DescribeMountTargetSecurityGroups", "ListTagsForResource", "ModifyMountTargetSecurityGroups"),
        *("PutLifecycleConfiguration", "TagResource", "UntagResource", "UpdateFileSystem"),
    )
    yield allow("FileSystem", [f"elasticfilesystem:{action}" for action in efs], [names.efs_arn("*")])
    yield allow("MakeFileSystem", ["elasticfilesystem:CreateFileSystem"], ["*"])
    group = ("CreateSecurityGroup", "DeleteSecurityGroup", "AuthorizeSecurityGroupIngress", "ModifySecurityGroupRules")
    revoked = ("RevokeSecurityGroupEgress", "RevokeSecurityGroupIngress")
    interface = ("CreateNetworkInterface", "DeleteNetworkInterface", "ModifyNetworkInterfaceAttribute")
    tagged = ("CreateTags", "DeleteTags")
    resources = ("network-interface", "security-group", "security-group-rule", "subnet", "vpc")
    yield allow(
        "Network",
        [f"ec2:{action}" for action in (*group, *revoked, *interface, *tagged)],
        [names.ec2_arn(f"{resource}/*") for resource in resources],
    )
    described = ("NetworkInterfaces", "SecurityGroupRules", "SecurityGroups", "Subnets")
    yield allow("FindNetwork", [f"ec2:Describe{what}" for what in described], ["*"])
