"""The composition of ``Storage``: the buckets for models, jobs and outputs. Pure.

Deleting the composite deletes nothing in AWS: neither the buckets nor what protects them.
"""

from collections.abc import Iterator

from pydantic import JsonValue

from darkroom_contract.cluster import Retention
from darkroom_contract.names import JOBS_PREFIX, Bucket, Names
from darkroom_function import policy
from darkroom_function.apis import StorageSpec, StorageStatus
from darkroom_function.managed import Composed, Kind, Managed, Observed, Owner

#: How long a model that was replaced or deleted can be brought back.
_REPLACED_MODELS_DAYS = 30
_INCOMPLETE_UPLOADS_DAYS = 7


def compose(spec: StorageSpec, observed: Observed) -> Composed[StorageStatus]:
    """The buckets of a cluster."""
    names = spec.cluster.names
    owner = Owner(f"{spec.cluster.name}-storage", spec.cluster.region)
    resources = [resource for bucket in Bucket for resource in _bucket(owner, names, bucket, spec.retention)]
    status = StorageStatus(
        models_bucket=names.bucket(Bucket.MODELS),
        jobs_bucket=names.bucket(Bucket.JOBS),
        outputs_bucket=names.bucket(Bucket.OUTPUTS),
    )
    return Composed.of(resources, observed, status)


def _bucket(owner: Owner, names: Names, bucket: Bucket, retention: Retention) -> Iterator[Managed]:
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


def _lifecycle(bucket: Bucket, retention: Retention) -> Iterator[JsonValue]:
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
        # The registry of runtimes is in this bucket too, under a prefix of its own, and stays.
        yield _rule("expire-jobs", JOBS_PREFIX, {"expiration": [{"days": retention.jobs}]})
    elif retention.outputs is not None:
        yield _rule("expire-outputs", "", {"expiration": [{"days": retention.outputs}]})


def _rule(rule_id: str, prefix: str, action: dict[str, JsonValue]) -> JsonValue:
    return {"id": rule_id, "status": "Enabled", "filter": [{"prefix": prefix}], **action}
