"""The proxy answers as AWS does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from darkroom_function import policy
from tests.emulator import emulated_aws
from tests.permissions.evaluator import Decision, Policies
from tests.permissions.proxy import PolicyProxy

ROLE = "arn:aws:iam::123456789012:role/app"
TOPIC = "arn:aws:sns:us-east-1:123456789012:prompts"
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/jobs"
SESSION = boto3.Session("app", "secret", region_name="us-east-1")
READ = policy.allow("Read", ["s3:GetObject"], ["arn:aws:s3:::photos/*"])
LIST = policy.allow("List", ["s3:ListBucket"], ["arn:aws:s3:::photos"])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyProxy]:
    with emulated_aws() as url:
        SESSION.client("s3", endpoint_url=url).create_bucket(Bucket="photos")
        folder: Path = tmp_path_factory.mktemp("proxy")
        with PolicyProxy(url, Policies(), {"app": ROLE}, SESSION, folder) as proxy:
            yield proxy


def client(proxy: PolicyProxy, service: Any, key: str = "app") -> Any:
    session = boto3.Session(key, "secret", region_name="us-east-1")
    config = Config(retries={"total_max_attempts": 1})
    return session.client(service, endpoint_url=proxy.url, verify=str(proxy.ca_bundle), config=config)


def allowing(*statements: policy.Statement) -> Policies:
    return Policies(identity={ROLE: policy.document(*statements)})


@pytest.mark.parametrize(
    ("service", "method", "arguments", "code"),
    [
        ("s3", "get_object", {"Bucket": "photos", "Key": "a"}, "AccessDenied"),
        ("s3", "head_object", {"Bucket": "photos", "Key": "a"}, "403"),
        ("sqs", "receive_message", {"QueueUrl": QUEUE_URL}, "AccessDenied"),
        ("sns", "publish", {"TopicArn": TOPIC, "Message": "a"}, "AuthorizationError"),
    ],
)
def test_a_call_that_is_not_allowed_is_refused_as_its_service_does(
    proxy: PolicyProxy, service: str, method: str, arguments: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(client(proxy, service), method)(**arguments)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert refused.value.response["Error"]["Code"] == code
    assert proxy.decided[-1].decision is Decision.IMPLICIT_DENY


@pytest.mark.parametrize(("policies", "code"), [(allowing(READ), "AccessDenied"), (allowing(READ, LIST), "NoSuchKey")])
def test_who_may_not_list_is_not_told_that_a_key_is_missing(proxy: PolicyProxy, policies: Policies, code: str) -> None:
    with proxy.under(policies), pytest.raises(ClientError, match=code):
        client(proxy, "s3").get_object(Bucket="photos", Key="missing")


@pytest.mark.parametrize("size", [0, 3, 300_000])
def test_what_is_allowed_is_done_and_arrives_whole(proxy: PolicyProxy, size: int) -> None:
    write = policy.allow("Write", ["s3:PutObject"], ["arn:aws:s3:::photos/*"])
    with proxy.under(allowing(READ, write)):
        s3, key = client(proxy, "s3"), f"a b/ü {size}"
        s3.put_object(Bucket="photos", Key=key, Body=b"\0" * size, Metadata={"nonce": "1"})
        assert s3.get_object(Bucket="photos", Key=key)["Body"].read() == b"\0" * size
        head = s3.head_object(Bucket="photos", Key=key)
        assert (head["ContentLength"], head["Metadata"]) == (size, {"nonce": "1"})


def test_a_request_that_nobody_mapped_is_not_forwarded_but_kept(proxy: PolicyProxy) -> None:
    everything = allowing(policy.allow("All", ["*"], ["*"]))
    with proxy.under(everything), pytest.raises(ClientError):
        client(proxy, "s3").list_buckets()
    with proxy.under(everything), pytest.raises(ClientError):
        client(proxy, "s3", key="somebody").get_object(Bucket="photos", Key="a")
    assert httpx.get(f"{proxy.plain_url}/photos/a").status_code == 501
    assert [what.partition(":")[0] for what in proxy.unmapped] == ["s3", "the access key somebody", "not signed"]
