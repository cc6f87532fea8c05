"""The composition of ``Storage``: where models, jobs and outputs are. Pure.

Deleting the composite deletes nothing in AWS: neither what holds the data nor what protects it. And Crossplane refuses
to delete the composite while it is protected.
"""

from collections.abc import Iterator

from pydantic import JsonValue

from darkroom_contract.cluster import DataRetention
from darkroom_contract.names import JOBS_PREFIX, Bucket, Names
from darkroom_function import file_system, policy
from darkroom_function.apis import StorageSpec, StorageStatus
from darkroom_function.kinds import Kind
from darkroom_function.managed import Composed, Managed, Observed, Owner, Usage, at_provider

#: How long a model that was replaced or deleted can be brought back.
_REPLACED_MODELS_DAYS = 30
_INCOMPLETE_UPLOADS_DAYS = 7


def compose(spec: StorageSpec, observed: Observed) -> Composed[StorageStatus]:
    """Where a cluster keeps things."""
    names, efs = spec.cluster.names, spec.models.efs
    owner = Owner(f"{spec.cluster.name}-storage", spec.cluster.region)
    buckets = [bucket for bucket in Bucket if bucket is not Bucket.MODELS or efs is None]
    resources: list[Managed | Usage] = [
        resource for bucket in buckets for resource in _bucket(owner, names, bucket, spec.retention)
    ]
    if efs is not None:
        resources += file_system.compose(owner, names, efs)
    if spec.protected:
        loss = "The cluster keeps its models, jobs and outputs by it."
        resources.append(Usage.of_composite(owner, "Storage", spec.cluster.name, loss))
    status = StorageStatus(
        models_bucket=names.bucket(Bucket.MODELS) if efs is None else None,
        models_file_system_id=at_provider(observed, file_system.FILE_SYSTEM, "id") if efs else None,
        models_access_point_id=at_provider(observed, file_system.ACCESS_POINT, "id") if efs else None,
        jobs_bucket=names.bucket(Bucket.JOBS),
        outputs_bucket=names.bucket(Bucket.OUTPUTS),
    )
    return Composed.of(resources, observed, status)


def _bucket(owner: Owner, names: Names, bucket: Bucket, retention: DataRetention) -> Iterator[Managed]:
    name = names.bucket(bucket)
    arn = names.bucket_arn(name)

    def part(kind: Kind, key: str, for_provider: dict[str, JsonValue]) -> Managed:
        return owner.managed(kind, f"{bucket}-{key}", {"bucket": name, **for_provider}, retained=True)

    yield owner.managed(Kind.BUCKET, bucket.value, {"forceDestroy": False}, external_name=name, retained=True)
    yield part(
        Kind.BUCKET_PUBLIC_ACCESS_BLOCK,
        "public-access-block",
        {
            "blockPublicAcls": True,
            "blockPublicPolicy": True,
            "ignorePublicAcls": True,
            "restrictPublicBuckets": True,
        },
    )
    yield part(Kind.BUCKET_OWNERSHIP_CONTROLS, "ownership", {"rule": {"objectOwnership": "BucketOwnerEnforced"}})
    yield part(
        Kind.BUCKET_ENCRYPTION,
        "encryption",
        {"rule": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}]},
    )
    only_tls = policy.deny_insecure_transport("s3:*", [arn, names.bucket_arn(name, "*")])
    yield part(Kind.BUCKET_POLICY, "policy", {"policy": policy.document(only_tls)})
    if bucket is Bucket.MODELS:
        yield part(Kind.BUCKET_VERSIONING, "versioning", {"versioningConfiguration": {"status": "Enabled"}})
    yield part(Kind.BUCKET_LIFECYCLE, "lifecycle", {"rule": list(_lifecycle(bucket, retention))})


def _lifecycle(bucket: Bucket, retention: DataRetention) -> Iterator[JsonValue]:
    yield _rule(
        "abort-incomplete-uploads",
        "",
        {"abortIncompleteMultipartUpload": [{"daysAfterInitiation": _INCOMPLETE_UPLOADS_DAYS}]},
    )
    if bucket is Bucket.MODELS:
        yield _rule(
            "forget-replaced-models",
            "",
            {"noncurrentVersionExpiration": [{"noncurrentDays": _REPLACED_MODELS_DAYS}]},
        )
    elif bucket is Bucket.JOBS:
        # The registry of runtimes and their workflows are in this bucket too, under prefixes of their own, and stay.
        yield _rule("expire-jobs", JOBS_PREFIX, {"expiration": [{"days": retention.jobs}]})
    elif retention.outputs is not None:
        yield _rule("expire-outputs", "", {"expiration": [{"days": retention.outputs}]})


def _rule(rule_id: str, prefix: str, action: dict[str, JsonValue]) -> JsonValue:
    return {"id": rule_id, "status": "Enabled", "filter": [{"prefix": prefix}], **action}
