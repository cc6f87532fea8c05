"""What each kind of managed resource becomes in AWS: the table of a small provider, for an emulator.

An entry takes a managed resource with its references resolved, creates it, or brings up to date what a local stack
changes, and returns what the real provider would report in ``status.atProvider``. It calls AWS through the clients that
it is given.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import boto3

logger = logging.getLogger(__name__)

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
    #: The name of its Kubernetes object.
    object_name: str
    #: The name that AWS knows it by, where that is not AWS's to choose.
    external_name: str
    #: ``spec.forProvider`` with every reference replaced by what it refers to.
    spec: dict[str, Any]
    #: What was reported last; empty before it was created.
    observed: Observation
    aws: Aws

    def client(self, service: str) -> Any:
        """A client of a service."""
        return self.aws.client(service)

    @cached_property
    def tags(self) -> list[dict[str, str]]:
        """Its tags as most services take them."""
        return [{"Key": key, "Value": value} for key, value in self.spec.get("tags", {}).items()]


def apply(resource: Managed) -> Observation:
    """See that AWS has the resource; raises ``KeyError`` for a kind that the table lacks."""
    return _ENTRIES[resource.kind](resource)


def known_kinds() -> frozenset[str]:
    """The kinds that the table has."""
    return frozenset(_ENTRIES)


# Topics


def _topic(topic: Managed) -> Observation:
    arn = topic.client("sns").create_topic(Name=topic.external_name)["TopicArn"]
    return {"id": arn, "arn": arn}


def _topic_policy(policy: Managed) -> Observation:
    document = _without_tls_statements(policy, "policy")
    if document:
        policy.client("sns").set_topic_attributes(
            TopicArn=policy.spec["arn"], AttributeName="Policy", AttributeValue=document
        )
    return {"id": policy.spec["arn"]}


def _topic_subscription(subscription: Managed) -> Observation:
    spec = subscription.spec
    attributes = {
        "FilterPolicy": spec.get("filterPolicy"),
        "FilterPolicyScope": spec.get("filterPolicyScope"),
        "RawMessageDelivery": json.dumps(spec["rawMessageDelivery"]) if "rawMessageDelivery" in spec else None,
        "RedrivePolicy": spec.get("redrivePolicy"),
    }
    answer = subscription.client("sns").subscribe(
        TopicArn=spec["topicArn"],
        Protocol=spec["protocol"],
        Endpoint=spec["endpoint"],
        Attributes={name: value for name, value in attributes.items() if value is not None},
        ReturnSubscriptionArn=True,
    )
    return {"id": answer["SubscriptionArn"], "arn": answer["SubscriptionArn"]}


# Queues

_QUEUE_ATTRIBUTES = {
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "maxMessageSize": "MaximumMessageSize",
    "delaySeconds": "DelaySeconds",
}


def _queue(queue: Managed) -> Observation:
    sqs = queue.client("sqs")
    url = sqs.create_queue(QueueName=queue.spec["name"])["QueueUrl"]
    attributes = {aws: str(queue.spec[name]) for name, aws in _QUEUE_ATTRIBUTES.items() if name in queue.spec}
    sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return {"id": url, "url": url, "arn": arn}


def _queue_attribute(field: str, attribute: str) -> Callable[[Managed], Observation]:
    def apply_attribute(resource: Managed) -> Observation:
        value = _without_tls_statements(resource, field)
        if value:
            resource.client("sqs").set_queue_attributes(
                QueueUrl=resource.spec["queueUrl"], Attributes={attribute: value}
            )
        return {"id": resource.spec["queueUrl"]}

    return apply_attribute


# Buckets


def _bucket(bucket: Managed) -> Observation:
    s3, name = bucket.client("s3"), bucket.external_name
    region = bucket.spec["region"]
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    if not bucket.observed:
        s3.create_bucket(Bucket=name, **place)
    return {"id": name, "arn": f"arn:aws:s3:::{name}"}


def _bucket_policy(policy: Managed) -> Observation:
    document = _without_tls_statements(policy, "policy")
    if document:
        policy.client("s3").put_bucket_policy(Bucket=policy.spec["bucket"], Policy=document)
    return {"id": policy.spec["bucket"]}


def _bucket_setting(
    method: str, argument: str, fields: Callable[[dict[str, Any]], dict[str, Any]]
) -> Callable[[Managed], Observation]:
    """An entry that makes one call with one argument, made of fields of the spec."""

    def apply_setting(setting: Managed) -> Observation:
        value = _capitalise(fields(setting.spec))
        getattr(setting.client("s3"), method)(Bucket=setting.spec["bucket"], **{argument: value})
        return {"id": setting.spec["bucket"]}

    return apply_setting


def _object(item: Managed) -> Observation:
    spec = item.spec
    item.client("s3").put_object(
        Bucket=spec["bucket"],
        Key=spec["key"],
        Body=spec["content"].encode(),
        ContentType=spec.get("contentType", "application/octet-stream"),
    )
    return {"id": spec["key"]}


def _encryption(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Encryption rules as AWS spells them."""
    return [
        {
            "applyServerSideEncryptionByDefault": {
                "SSEAlgorithm": rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"]
            },
            "bucketKeyEnabled": rule.get("bucketKeyEnabled", False),
        }
        for rule in rules
    ]


def _bucket_lifecycle(lifecycle: Managed) -> Observation:
    rules = []
    for rule in lifecycle.spec["rule"]:
        # The provider has a list where AWS has one object.
        single = {name: value[0] if isinstance(value, list) else value for name, value in rule.items() if name != "id"}
        rules.append({"ID": rule["id"], "Filter": {"Prefix": ""}, **_capitalise(single)})
    lifecycle.client("s3").put_bucket_lifecycle_configuration(
        Bucket=lifecycle.spec["bucket"], LifecycleConfiguration={"Rules": rules}
    )
    return {"id": lifecycle.spec["bucket"]}


# Identity


def _role(role: Managed) -> Observation:
    iam, spec = role.client("iam"), role.spec
    if role.observed:
        iam.update_assume_role_policy(RoleName=role.external_name, PolicyDocument=spec["assumeRolePolicy"])
        return role.observed
    answer = iam.create_role(
        RoleName=role.external_name,
        Path=spec.get("path", "/"),
        AssumeRolePolicyDocument=spec["assumeRolePolicy"],
        PermissionsBoundary=spec["permissionsBoundary"],
        Tags=role.tags,
    )
    return {"id": role.external_name, "arn": answer["Role"]["Arn"]}


def _role_policy(policy: Managed) -> Observation:
    name = policy.external_name.rpartition(":")[2]
    policy.client("iam").put_role_policy(
        RoleName=policy.spec["role"], PolicyName=name, PolicyDocument=policy.spec["policy"]
    )
    return {"id": f"{policy.spec['role']}:{name}"}


def _pod_identity_association(association: Managed) -> Observation:
    # The emulator has no EKS cluster; agents of a local stack run under the emulator's own credentials.
    return {"id": association.object_name, "associationId": association.object_name}


# API


def _log_group(group: Managed) -> Observation:
    logs = group.client("logs")
    if not group.observed:
        logs.create_log_group(logGroupName=group.external_name)
    logs.put_retention_policy(logGroupName=group.external_name, retentionInDays=group.spec["retentionInDays"])
    return {"id": group.external_name}


def _function(function: Managed) -> Observation:
    if function.observed:
        return function.observed
    spec = function.spec
    answer = function.client("lambda").create_function(
        FunctionName=function.external_name,
        PackageType=spec["packageType"],
        Code={"ImageUri": spec["imageUri"]},
        Role=spec["role"],
        Timeout=spec["timeout"],
        MemorySize=spec["memorySize"],
        Environment={"Variables": spec["environment"]["variables"]},
    )
    return {"id": function.external_name, "arn": answer["FunctionArn"]}


def _permission(permission: Managed) -> Observation:
    spec = permission.spec
    if not permission.observed:
        permission.client("lambda").add_permission(
            FunctionName=spec["functionName"],
            StatementId=spec["statementId"],
            Action=spec["action"],
            Principal=spec["principal"],
            SourceArn=spec["sourceArn"],
        )
    return {"id": spec["statementId"]}


def _rest_api(api: Managed) -> Observation:
    gateway = api.client("apigateway")
    api_id = api.observed.get("id") or gateway.create_rest_api(name=api.spec["name"])["id"]
    gateway.put_rest_api(restApiId=api_id, mode="overwrite", body=api.spec["body"].encode())
    region, account = api.spec["region"], api.client("sts").get_caller_identity()["Account"]
    arn = f"arn:aws:execute-api:{region}:{account}:{api_id}"
    return {"id": api_id, "executionArn": arn, "body": api.spec["body"]}


def _deployment(deployment: Managed) -> Observation:
    if deployment.observed:
        return deployment.observed
    answer = deployment.client("apigateway").create_deployment(restApiId=deployment.spec["restApiId"])
    return {"id": answer["id"]}


def _stage(stage: Managed) -> Observation:
    gateway, spec = stage.client("apigateway"), stage.spec
    place = {"restApiId": spec["restApiId"], "stageName": spec["stageName"]}
    if stage.observed:
        change = {"op": "replace", "path": "/deploymentId", "value": spec["deploymentId"]}
        gateway.update_stage(**place, patchOperations=[change])
    else:
        gateway.create_stage(**place, deploymentId=spec["deploymentId"])
    return {"id": spec["stageName"], "deploymentId": spec["deploymentId"], "stageName": spec["stageName"]}


def _method_settings(settings: Managed) -> Observation:
    # The emulator does not throttle; the local gateway reads the usage plans.
    return {"id": settings.object_name}


def _api_key(key: Managed) -> Observation:
    if key.observed:
        return key.observed
    reference = key.spec["valueSecretRef"]
    value = key.aws.secrets[reference["name"], reference["key"]]
    answer = key.client("apigateway").create_api_key(name=key.spec["name"], value=value, enabled=True)
    return {"id": answer["id"]}


def _usage_plan(plan: Managed) -> Observation:
    if plan.observed:
        return plan.observed
    stages = [{"apiId": stage["apiId"], "stage": stage["stage"]} for stage in plan.spec["apiStages"]]
    answer = plan.client("apigateway").create_usage_plan(name=plan.spec["name"], apiStages=stages)
    return {"id": answer["id"]}


def _usage_plan_key(key: Managed) -> Observation:
    spec = key.spec
    if not key.observed:
        key.client("apigateway").create_usage_plan_key(
            usagePlanId=spec["usagePlanId"], keyId=spec["keyId"], keyType=spec["keyType"]
        )
    return {"id": spec["keyId"], "keyId": spec["keyId"], "usagePlanId": spec["usagePlanId"]}


_ENTRIES: dict[str, Callable[[Managed], Observation]] = {
    "APIKey": _api_key,
    "Bucket": _bucket,
    "BucketLifecycleConfiguration": _bucket_lifecycle,
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


def _without_tls_statements(resource: Managed, field: str) -> str | None:
    """A policy without its TLS-only statements, which the emulator takes for a ban on everything."""
    document = json.loads(resource.spec[field])
    kept = [statement for statement in document.get("Statement", ()) if not _is_tls_only(statement)]
    for statement in document.get("Statement", ()):
        if _is_tls_only(statement):
            logger.info("%s %s: the emulator cannot honour %s", resource.kind, resource.object_name, statement["Sid"])
    if "Statement" in document and not kept:
        return None
    return json.dumps({**document, "Statement": kept} if kept else document)


def _is_tls_only(statement: Mapping[str, Any]) -> bool:
    return statement["Effect"] == "Deny" and "aws:SecureTransport" in json.dumps(statement.get("Condition", {}))


def _capitalise(value: Any) -> Any:
    """The provider's camelCase in AWS's CamelCase."""
    if isinstance(value, dict):
        return {name[0].upper() + name[1:]: _capitalise(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_capitalise(item) for item in value]
    return value
