"""What each kind of managed resource becomes in AWS: the table of a small provider, for an emulator.

An entry takes a managed resource with its references resolved, creates it, or changes it where it can change within a
stack's life, and returns its id. It calls AWS through the clients that it is given.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import boto3

Observation: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Aws:
    """Clients of one AWS endpoint, and the secrets that resources may refer to, by name and key."""

    session: boto3.Session
    endpoint_url: str
    secrets: Mapping[tuple[str, str], str]

    def client(self, service: str) -> Any:
        """A client of a service at the endpoint."""
        return self.session.client(service, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Managed:
    """A managed resource, as its entry in the table sees it."""

    kind: str
    #: The name that AWS knows it by where the spec has none.
    external_name: str
    #: ``spec.forProvider`` with every reference replaced by what it refers to.
    spec: dict[str, Any]
    #: What was reported last; empty before it was created.
    observed: Observation
    aws: Aws

    def client(self, service: str) -> Any:
        """A client of a service."""
        return self.aws.client(service)


def apply(resource: Managed) -> Observation:
    """See that AWS has the resource; what the provider reports in ``status.atProvider``: the spec, and an id."""
    return {**resource.spec, "id": _ENTRIES[resource.kind](resource)}


def known_kinds() -> frozenset[str]:
    """The kinds that the table has."""
    return frozenset(_ENTRIES)


# Topics


def _topic(topic: Managed) -> str:
    arn: str = topic.client("sns").create_topic(Name=topic.external_name)["TopicArn"]
    return arn


def _topic_policy(policy: Managed) -> str:
    arn: str = policy.spec["arn"]
    policy.client("sns").set_topic_attributes(
        TopicArn=arn, AttributeName="Policy", AttributeValue=policy.spec["policy"]
    )
    return arn


def _topic_subscription(subscription: Managed) -> str:
    sns, spec = subscription.client("sns"), subscription.spec
    attributes = {
        "RawMessageDelivery": json.dumps(spec["rawMessageDelivery"]),
        "FilterPolicyScope": spec.get("filterPolicyScope"),
        "FilterPolicy": spec.get("filterPolicy"),
        "RedrivePolicy": spec.get("redrivePolicy"),
    }
    attributes = {name: value for name, value in attributes.items() if value is not None}
    if subscription.observed:
        known: str = subscription.observed["id"]
        for name, value in attributes.items():
            sns.set_subscription_attributes(SubscriptionArn=known, AttributeName=name, AttributeValue=value)
        return known
    arn: str = sns.subscribe(
        TopicArn=spec["topicArn"],
        Protocol=spec["protocol"],
        Endpoint=spec["endpoint"],
        Attributes=attributes,
        ReturnSubscriptionArn=True,
    )["SubscriptionArn"]
    return arn


# Queues

_QUEUE_ATTRIBUTES = {
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "maxMessageSize": "MaximumMessageSize",
}


def _queue(queue: Managed) -> str:
    attributes = {aws: str(queue.spec[name]) for name, aws in _QUEUE_ATTRIBUTES.items()}
    url: str = queue.client("sqs").create_queue(QueueName=queue.spec["name"], Attributes=attributes)["QueueUrl"]
    return url


def _queue_attribute(field: str, attribute: str) -> Callable[[Managed], str]:
    def apply_attribute(resource: Managed) -> str:
        url: str = resource.spec["queueUrl"]
        resource.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={attribute: resource.spec[field]})
        return url

    return apply_attribute


# Buckets


def _bucket(bucket: Managed) -> str:
    region = bucket.spec["region"]
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    bucket.client("s3").create_bucket(Bucket=bucket.external_name, **place)
    return bucket.external_name


def _bucket_policy(policy: Managed) -> str:
    # All that it says is to use TLS, which the emulator takes for a ban on everything.
    bucket: str = policy.spec["bucket"]
    return bucket


def _bucket_setting(
    method: str, argument: str, fields: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[Managed], str]:
    """An entry that makes one call with one argument, made of fields of the spec."""

    def apply_setting(setting: Managed) -> str:
        bucket: str = setting.spec["bucket"]
        value = _capitalise(fields(setting.spec))
        getattr(setting.client("s3"), method)(Bucket=bucket, **{argument: value})
        return bucket

    return apply_setting


def _object(item: Managed) -> str:
    spec = item.spec
    key: str = spec["key"]
    item.client("s3").put_object(
        Bucket=spec["bucket"], Key=key, Body=spec["content"].encode(), ContentType=spec["contentType"]
    )
    return key


def _encryption(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Encryption rules as AWS spells them."""
    defaults = (rule["applyServerSideEncryptionByDefault"] for rule in rules)
    return [{"applyServerSideEncryptionByDefault": {"SSEAlgorithm": it["sseAlgorithm"]}} for it in defaults]


def _lifecycle(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lifecycle rules as AWS spells them: the provider has a list where AWS has one object."""
    return [
        {"ID" if name == "id" else name: value[0] if isinstance(value, list) else value for name, value in rule.items()}
        for rule in rules
    ]


# Identity


def _role(role: Managed) -> str:
    role.client("iam").create_role(
        RoleName=role.external_name,
        Path=role.spec["path"],
        AssumeRolePolicyDocument=role.spec["assumeRolePolicy"],
        PermissionsBoundary=role.spec["permissionsBoundary"],
    )
    return role.external_name


def _role_policy(policy: Managed) -> str:
    role, name = policy.spec["role"], policy.external_name
    policy.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=policy.spec["policy"])
    return f"{role}:{name}"


def _pod_identity_association(association: Managed) -> str:
    # The emulator has no EKS cluster; agents of a local stack run under the emulator's own credentials.
    return association.external_name


# API


def _log_group(group: Managed) -> str:
    logs, name = group.client("logs"), group.external_name
    if not group.observed:
        logs.create_log_group(logGroupName=name)
    logs.put_retention_policy(logGroupName=name, retentionInDays=group.spec["retentionInDays"])
    return name


def _function(function: Managed) -> str:
    client, name, spec = function.client("lambda"), function.external_name, function.spec
    settings = {
        "Role": spec["role"],
        "Timeout": spec["timeout"],
        "MemorySize": spec["memorySize"],
        "Environment": {"Variables": spec["environment"]["variables"]},
    }
    if function.observed:
        client.update_function_configuration(FunctionName=name, **settings)
    else:
        image = {"ImageUri": spec["imageUri"]}
        client.create_function(FunctionName=name, PackageType=spec["packageType"], Code=image, **settings)
    return name


def _permission(permission: Managed) -> str:
    spec = permission.spec
    permission.client("lambda").add_permission(
        FunctionName=spec["functionName"],
        StatementId=spec["statementId"],
        Action=spec["action"],
        Principal=spec["principal"],
        SourceArn=spec["sourceArn"],
    )
    statement: str = spec["statementId"]
    return statement


def _rest_api(api: Managed) -> str:
    gateway = api.client("apigateway")
    api_id: str = api.observed.get("id") or gateway.create_rest_api(name=api.spec["name"])["id"]
    gateway.put_rest_api(restApiId=api_id, mode="overwrite", body=api.spec["body"].encode())
    return api_id


def _deployment(deployment: Managed) -> str:
    deployment_id: str = deployment.client("apigateway").create_deployment(restApiId=deployment.spec["restApiId"])["id"]
    return deployment_id


def _stage(stage: Managed) -> str:
    gateway, spec = stage.client("apigateway"), stage.spec
    name: str = spec["stageName"]
    place = {"restApiId": spec["restApiId"], "stageName": name}
    if stage.observed:
        change = {"op": "replace", "path": "/deploymentId", "value": spec["deploymentId"]}
        gateway.update_stage(**place, patchOperations=[change])
    else:
        gateway.create_stage(**place, deploymentId=spec["deploymentId"])
    return name


def _method_settings(settings: Managed) -> str:
    # The emulator does not throttle; the local gateway reads the usage plans.
    return settings.external_name


def _api_key(key: Managed) -> str:
    reference = key.spec["valueSecretRef"]
    value = key.aws.secrets[reference["name"], reference["key"]]
    key_id: str = key.client("apigateway").create_api_key(name=key.spec["name"], value=value, enabled=True)["id"]
    return key_id


def _usage_plan(plan: Managed) -> str:
    # How much it allows, the local gateway reads from what is declared.
    if plan.observed:
        known: str = plan.observed["id"]
        return known
    stages = [{"apiId": stage["apiId"], "stage": stage["stage"]} for stage in plan.spec["apiStages"]]
    plan_id: str = plan.client("apigateway").create_usage_plan(name=plan.spec["name"], apiStages=stages)["id"]
    return plan_id


def _usage_plan_key(key: Managed) -> str:
    key_id: str = key.spec["keyId"]
    key.client("apigateway").create_usage_plan_key(
        usagePlanId=key.spec["usagePlanId"], keyId=key_id, keyType=key.spec["keyType"]
    )
    return key_id


_ENTRIES: dict[str, Callable[[Managed], str]] = {
    "APIKey": _api_key,
    "Bucket": _bucket,
    "BucketLifecycleConfiguration": _bucket_setting(
        "put_bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        lambda spec: {"rules": _lifecycle(spec["rule"])},
    ),
    "BucketOwnershipControls": _bucket_setting(
        "put_bucket_ownership_controls", "OwnershipControls", lambda spec: {"rules": [spec["rule"]]}
    ),
    "BucketPolicy": _bucket_policy,
    "BucketPublicAccessBlock": _bucket_setting(
        "put_public_access_block",
        "PublicAccessBlockConfiguration",
        lambda spec: {name: value for name, value in spec.items() if name not in ("region", "bucket")},
    ),
    "BucketServerSideEncryptionConfiguration": _bucket_setting(
        "put_bucket_encryption", "ServerSideEncryptionConfiguration", lambda spec: {"rules": _encryption(spec["rule"])}
    ),
    "BucketVersioning": _bucket_setting(
        "put_bucket_versioning", "VersioningConfiguration", lambda spec: spec["versioningConfiguration"]
    ),
    "Deployment": _deployment,
    "Function": _function,
    "Group": _log_group,
    "MethodSettings": _method_settings,
    "Object": _object,
    "Permission": _permission,
    "PodIdentityAssociation": _pod_identity_association,
    "Queue": _queue,
    "QueuePolicy": _queue_attribute("policy", "Policy"),
    "QueueRedriveAllowPolicy": _queue_attribute("redriveAllowPolicy", "RedriveAllowPolicy"),
    "QueueRedrivePolicy": _queue_attribute("redrivePolicy", "RedrivePolicy"),
    "RestAPI": _rest_api,
    "Role": _role,
    "RolePolicy": _role_policy,
    "Stage": _stage,
    "Topic": _topic,
    "TopicPolicy": _topic_policy,
    "TopicSubscription": _topic_subscription,
    "UsagePlan": _usage_plan,
    "UsagePlanKey": _usage_plan_key,
}


def _capitalise(value: Any) -> Any:
    """The provider's camelCase in AWS's CamelCase."""
    if isinstance(value, dict):
        return {name[0].upper() + name[1:]: _capitalise(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_capitalise(item) for item in value]
    return value
