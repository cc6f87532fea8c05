"""S3: buckets, their settings, objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from darkroom.local.kinds.external import (
    External,
    Managed,
    Observation,
    Refused,
    Remembered,
    Setting,
    Spec,
    capitalised,
    uncapitalised,
)


class _Bucket(External):
    named = True

    def observe(self, it: Managed) -> Observation:
        it.client("s3").head_bucket(Bucket=it.external_name)
        return {"id": it.external_name, "arn": f"arn:aws:s3:::{it.external_name}", "region": it.region}

    def create(self, it: Managed) -> str:
        place = {} if it.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": it.region}}
        it.client("s3").create_bucket(Bucket=it.external_name, **place)
        return it.external_name

    def update(self, it: Managed) -> None:
        """There is nothing to change: all that a bucket has is of other kinds."""

    def delete(self, it: Managed) -> None:
        it.client("s3").delete_bucket(Bucket=it.external_name)


class _Object(External):
    addressed = True
    immutable = frozenset({"bucket", "key"})

    def observe(self, it: Managed) -> Observation:
        found = it.client("s3").get_object(**_place(it))
        return {
            "id": f"{it.spec['bucket']}/{it.spec['key']}",
            "bucket": it.spec["bucket"],
            "key": it.spec["key"],
            "content": found["Body"].read().decode(),
            "contentType": found["ContentType"],
            "acl": _acl(it),  # it is kept as a grant, which says less
            "etag": found["ETag"].strip('"'),
        }

    def create(self, it: Managed) -> str:
        s3, acl = it.client("s3"), _acl(it)
        controls = s3.get_bucket_ownership_controls(Bucket=it.spec["bucket"])["OwnershipControls"]
        if acl != _OWNERS and controls["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]:
            raise Refused(f"AccessControlListNotSupported: the bucket takes no ACL, but {_OWNERS}")
        s3.put_object(**_place(it), ACL=acl, Body=it.spec["content"].encode(), ContentType=it.spec["contentType"])
        return f"{it.spec['bucket']}/{it.spec['key']}"

    def delete(self, it: Managed) -> None:
        it.client("s3").delete_object(**_place(it))


_OWNERS = "bucket-owner-full-control"


def _acl(item: Managed) -> str:
    # The provider's own default is private.
    acl: str = item.spec.get("acl", "private")
    return acl


def _place(item: Managed) -> dict[str, str]:
    return {"Bucket": item.spec["bucket"], "Key": item.spec["key"]}


def _setting(
    calls: str, argument: str, wanted: Callable[[Spec], dict[str, Any]], found: Callable[[dict[str, Any]], Observation]
) -> Setting:
    """A bucket's setting: its calls' name, what they carry, and how that is made of a spec and is read again."""

    def call(it: Managed, verb: str, bucket: str, **arguments: Any) -> Any:
        # Of this one alone, the calls go by two names: delete_bucket_lifecycle.
        name = calls.removesuffix("_configuration") if verb == "delete" else calls
        return getattr(it.client("s3"), f"{verb}_{name}")(Bucket=bucket, **arguments)

    return Setting(
        "bucket",
        lambda it, bucket: found(call(it, "get", bucket)),
        lambda it, bucket: call(it, "put", bucket, **{argument: wanted(it.spec)}),
        lambda it, bucket: call(it, "delete", bucket),
    )


def _blocked(spec: Spec) -> dict[str, Any]:
    return dict(capitalised({name: value for name, value in spec.items() if name not in ("region", "bucket")}))


def _encryption(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "ApplyServerSideEncryptionByDefault": {
            "SSEAlgorithm": rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"]
        }
    }


def _found_encryption(rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "applyServerSideEncryptionByDefault": {
            "sseAlgorithm": rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"]
        }
    }


#: Where AWS has one object in a lifecycle rule, the provider has a list of one.
_LISTS = ("filter", "expiration", "noncurrentVersionExpiration", "abortIncompleteMultipartUpload")


def _lifecycle(rule: dict[str, Any]) -> dict[str, Any]:
    actions = {name: rule[name][0] for name in _LISTS if name in rule}
    return {"ID": rule["id"], "Status": rule["status"], **capitalised(actions)}


def _found_lifecycle(rule: dict[str, Any]) -> dict[str, Any]:
    actions = uncapitalised({name: [value] for name, value in rule.items() if isinstance(value, dict)})
    return {"id": rule["ID"], "status": rule["Status"], **actions}


def _get_versioning(it: Managed, bucket: str) -> Observation | None:
    """Versioning can be suspended and never taken away, so that one is as good as the other."""
    status = it.client("s3").get_bucket_versioning(Bucket=bucket).get("Status")
    return {"versioningConfiguration": {"status": status}} if status == "Enabled" else None


def _put_versioning(it: Managed, bucket: str, status: str) -> None:
    it.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


KINDS: dict[str, External] = {
    "Bucket": _Bucket(),
    "BucketLifecycleConfiguration": _setting(
        "bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        lambda spec: {"Rules": [_lifecycle(rule) for rule in spec["rule"]]},
        lambda found: {"rule": [_found_lifecycle(rule) for rule in found["Rules"]]},
    ),
    "BucketOwnershipControls": _setting(
        "bucket_ownership_controls",
        "OwnershipControls",
        lambda spec: {"Rules": [capitalised(spec["rule"])]},
        lambda found: {"rule": uncapitalised(found["OwnershipControls"]["Rules"][0])},
    ),
    # All that it says is to use TLS, which the emulator, whom conditions mean nothing, takes for a ban on everything.
    "BucketPolicy": Remembered(frozenset({"bucket"}), lambda it: str(it.spec["bucket"])),
    "BucketPublicAccessBlock": _setting(
        "public_access_block",
        "PublicAccessBlockConfiguration",
        _blocked,
        lambda found: dict(uncapitalised(found["PublicAccessBlockConfiguration"])),
    ),
    "BucketServerSideEncryptionConfiguration": _setting(
        "bucket_encryption",
        "ServerSideEncryptionConfiguration",
        lambda spec: {"Rules": [_encryption(rule) for rule in spec["rule"]]},
        lambda found: {
            "rule": [_found_encryption(rule) for rule in found["ServerSideEncryptionConfiguration"]["Rules"]]
        },
    ),
    "BucketVersioning": Setting(
        "bucket",
        _get_versioning,
        lambda it, bucket: _put_versioning(it, bucket, it.spec["versioningConfiguration"]["status"]),
        lambda it, bucket: _put_versioning(it, bucket, "Suspended"),
    ),
    "Object": _Object(),
}
