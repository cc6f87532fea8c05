"""The kinds of managed resources: what the provider calls them, and which of them AWS names. Pure."""

import re
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of managed resources that the compositions use."""

    TOPIC = "Topic"
    TOPIC_POLICY = "TopicPolicy"
    TOPIC_SUBSCRIPTION = "TopicSubscription"
    QUEUE = "Queue"
    QUEUE_POLICY = "QueuePolicy"
    QUEUE_REDRIVE_POLICY = "QueueRedrivePolicy"
    QUEUE_REDRIVE_ALLOW_POLICY = "QueueRedriveAllowPolicy"
    BUCKET = "Bucket"
    BUCKET_PUBLIC_ACCESS_BLOCK = "BucketPublicAccessBlock"
    BUCKET_OWNERSHIP_CONTROLS = "BucketOwnershipControls"
    BUCKET_ENCRYPTION = "BucketServerSideEncryptionConfiguration"
    BUCKET_POLICY = "BucketPolicy"
    BUCKET_LIFECYCLE = "BucketLifecycleConfiguration"
    BUCKET_VERSIONING = "BucketVersioning"
    OBJECT = "Object"
    ROLE = "Role"
    ROLE_POLICY = "RolePolicy"
    ROLE_POLICY_ATTACHMENT = "RolePolicyAttachment"
    INSTANCE_PROFILE = "InstanceProfile"
    POD_IDENTITY_ASSOCIATION = "PodIdentityAssociation"
    ACCESS_ENTRY = "AccessEntry"
    RULE = "Rule"
    TARGET = "Target"
    LOG_GROUP = "Group"
    FUNCTION = "Function"
    PERMISSION = "Permission"
    REST_API = "RestAPI"
    DEPLOYMENT = "Deployment"
    STAGE = "Stage"
    METHOD_SETTINGS = "MethodSettings"
    API_KEY = "APIKey"
    USAGE_PLAN = "UsagePlan"
    USAGE_PLAN_KEY = "UsagePlanKey"
    METRIC_ALARM = "MetricAlarm"
    FILE_SYSTEM = "FileSystem"
    ACCESS_POINT = "AccessPoint"
    MOUNT_TARGET = "MountTarget"
    SECURITY_GROUP = "SecurityGroup"
    SECURITY_GROUP_INGRESS_RULE = "SecurityGroupIngressRule"

    @property
    def api_version(self) -> str:
        """The kind's API group and version."""
        return f"{self.group}/v1beta1"

    @property
    def group(self) -> str:
        """The kind's API group."""
        return f"{self.service}.aws.m.upbound.io"

    @property
    def service(self) -> str:
        """The member of the provider's family that the kind belongs to."""
        return _SERVICES[self]

    @property
    def crd(self) -> str:
        """The name of the kind's CustomResourceDefinition."""
        singular = re.sub(r"(?<=[^aeiou])y$", "ie", self.value.lower())
        return f"{singular.removesuffix('s')}s.{self.group}"


_SERVICES = {
    kind: service
    for service, kinds in {
        "sns": (Kind.TOPIC, Kind.TOPIC_POLICY, Kind.TOPIC_SUBSCRIPTION),
        "sqs": (Kind.QUEUE, Kind.QUEUE_POLICY, Kind.QUEUE_REDRIVE_POLICY, Kind.QUEUE_REDRIVE_ALLOW_POLICY),
        "s3": (
            Kind.BUCKET,
            Kind.BUCKET_PUBLIC_ACCESS_BLOCK,
            Kind.BUCKET_OWNERSHIP_CONTROLS,
            Kind.BUCKET_ENCRYPTION,
            Kind.BUCKET_POLICY,
            Kind.BUCKET_LIFECYCLE,
            Kind.BUCKET_VERSIONING,
            Kind.OBJECT,
        ),
        "iam": (Kind.ROLE, Kind.ROLE_POLICY, Kind.ROLE_POLICY_ATTACHMENT, Kind.INSTANCE_PROFILE),
        "eks": (Kind.POD_IDENTITY_ASSOCIATION, Kind.ACCESS_ENTRY),
        "cloudwatchevents": (Kind.RULE, Kind.TARGET),
        "cloudwatchlogs": (Kind.LOG_GROUP,),
        "lambda": (Kind.FUNCTION, Kind.PERMISSION),
        "apigateway": (
            Kind.REST_API,
            Kind.DEPLOYMENT,
            Kind.STAGE,
            Kind.METHOD_SETTINGS,
            Kind.API_KEY,
            Kind.USAGE_PLAN,
            Kind.USAGE_PLAN_KEY,
        ),
        "cloudwatch": (Kind.METRIC_ALARM,),
        "efs": (Kind.FILE_SYSTEM, Kind.ACCESS_POINT, Kind.MOUNT_TARGET),
        "ec2": (Kind.SECURITY_GROUP, Kind.SECURITY_GROUP_INGRESS_RULE),
    }.items()
    for kind in kinds
}


#: The kinds whose names AWS assigns, and where the provider shows the name. It would not know them again when it starts
#: anew, and make them once more (crossplane-runtime#850): the composition tells it the name as soon as it is shown.
ASSIGNED_NAMES = {
    Kind.TOPIC_SUBSCRIPTION: "id",
    Kind.QUEUE: "id",
    Kind.ROLE_POLICY_ATTACHMENT: "id",
    Kind.POD_IDENTITY_ASSOCIATION: "associationId",
    Kind.PERMISSION: "id",
    Kind.REST_API: "id",
    Kind.DEPLOYMENT: "id",
    Kind.API_KEY: "id",
    Kind.USAGE_PLAN: "id",
    Kind.USAGE_PLAN_KEY: "id",
    Kind.FILE_SYSTEM: "id",
    Kind.ACCESS_POINT: "id",
    Kind.MOUNT_TARGET: "id",
    Kind.SECURITY_GROUP: "id",
    Kind.SECURITY_GROUP_INGRESS_RULE: "id",
}
