"""What ``darkroom destroy`` asks, in which order it goes, and what it finds at its end."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from darkroom.bootstrap import destroy, leftovers
from darkroom.cli import app
from darkroom_contract.names import Bucket
from tests.programs import Account
from tests.unit.darkroom.bootstrap.fork import Fork


def test_who_is_not_asked_has_to_say_what_becomes_of_the_data(fork: Fork, aws: Account) -> None:
    result = CliRunner().invoke(app, ["destroy", "--yes", str(fork.folder)])
    assert result.exit_code == 1
    assert "--keep-data, or --delete-data" in result.output
    assert not aws.changes


def test_another_name_than_the_clusters_changes_nothing(fork: Fork, aws: Account) -> None:
    result = CliRunner().invoke(app, ["destroy", str(fork.folder)], input="theirs\n")
    assert result.exit_code == 1
    assert "nothing was changed" in result.output
    assert not aws.changes


def test_nothing_is_taken_away_before_what_depends_on_it(fork: Fork) -> None:
    last_first = [each.title for each in destroy.removals(fork.context(), delete_data=True)]
    order = [next(title for title in last_first if part in title) for part in _IN_ORDER]
    assert sorted(order, key=last_first.index, reverse=True) == order


_IN_ORDER = (
    "Webhooks",
    "Argo CD's hold",
    "The runtimes",
    "The API",
    "The nodes that Karpenter",
    "The identities of the add-ons",
    "The root Application",
    "Namespaces",
    "The S3 gateway endpoint",
    "The EKS cluster",
    "ECR repositories",
    "permissions boundaries",
)


@pytest.mark.parametrize("delete_data", [False, True])
def test_images_stay_unless_data_goes(fork: Fork, delete_data: bool) -> None:
    titles = [each.title for each in destroy.removals(fork.context(), delete_data=delete_data)]
    assert any("ECR" in title for title in titles) == delete_data


def test_what_is_left_is_listed_with_how_much_it_is_and_how_to_remove_it(fork: Fork, aws: Account) -> None:
    context = fork.context()
    bucket = context.names.bucket(Bucket.OUTPUTS)
    aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws.client("s3").put_object(Bucket=bucket, Key="picture.png", Body=b"p" * 2048)
    aws.client("ecr").create_repository(repositoryName="darkroom/agent")
    aws.client("logs").create_log_group(logGroupName="/aws/eks/ours-eks/cluster")
    tag = {"Key": "kubernetes.io/cluster/ours-eks", "Value": "owned"}
    volume = aws.client("ec2").create_volume(
        AvailabilityZone="eu-west-1a",
        Size=20,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [tag]}],
    )["VolumeId"]
    aws.client("ec2").create_volume(AvailabilityZone="eu-west-1a", Size=1)  # somebody else's
    found = {each.what: (each.detail, each.remove) for each in leftovers.find(context)}
    assert found == {
        f"Bucket {bucket}": ("1 objects, 2.0 KiB", f"aws s3 rb --force s3://{bucket}"),
        "ECR repository darkroom/agent": (
            "images, for all clusters of the account and region",
            "aws ecr delete-repository --force --region eu-west-1 --repository-name darkroom/agent",
        ),
        f"EBS volume {volume}": ("20 GiB", f"aws ec2 delete-volume --region eu-west-1 --volume-id {volume}"),
        "Log group /aws/eks/ours-eks/cluster": (
            "0 bytes",
            "aws logs delete-log-group --region eu-west-1 --log-group-name /aws/eks/ours-eks/cluster",
        ),
    }


def test_data_is_deleted_with_all_its_versions_when_that_was_said(fork: Fork, aws: Account) -> None:
    context, s3 = fork.context(), aws.client("s3")
    for purpose in Bucket:
        name = context.names.bucket(purpose)
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        for content in (b"first", b"second"):
            s3.put_object(Bucket=name, Key="file", Body=content)
    s3.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    system = aws.client("efs").create_file_system(CreationToken=context.names.models_file_system)["FileSystemId"]
    assert any(system in each.what for each in leftovers.data(context))
    leftovers.delete_data(context)
    leftovers.delete_data(context)
    assert [it["Name"] for it in s3.list_buckets()["Buckets"]] == ["theirs"]
    assert not list(leftovers.find(context))
