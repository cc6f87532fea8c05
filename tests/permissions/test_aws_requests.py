"""Requests as the AWS SDK makes them, and the permissions that they need."""

from typing import Any

import boto3
import pytest
from botocore.config import Config
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from tests.permissions import iam_reference
from tests.permissions.aws_requests import Credential, Permission, Place, Published, UnmappedRequest, needed

PLACE = Place("111122223333", "eu-west-1")
QUEUE = {"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/111122223333/jobs"}
QUEUE_ARN = "arn:aws:sqs:eu-west-1:111122223333:jobs"
TOPIC = "arn:aws:sns:eu-west-1:111122223333:prompts"
OBJECT = {"Bucket": "photos", "Key": "a b/ü.png"}
OBJECT_ARN = "arn:aws:s3:::photos/a b/ü.png"
PART = {**OBJECT, "UploadId": "1"}
STREAM = {"logGroupName": "/aws/lambda/api", "logStreamName": "2024/[$LATEST]1"}
STREAM_ARN = "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/lambda/api:log-stream:2024/[$LATEST]1"
MESSAGE = {"Id": "1", "ReceiptHandle": "a"}
ENDPOINT = "https://127.0.0.1:1"
SESSION = boto3.Session("a-key", "secret", region_name="eu-west-1")


class _Sent(Exception):  # noqa: N818
    def __init__(self, request: Any) -> None:
        self.request = request


def request(service: str, method: str, arguments: dict[str, Any]) -> Request:
    """What the SDK sends."""

    def stop(request: Any, **_: Any) -> None:
        raise _Sent(request)

    client: Any = SESSION.client(service, endpoint_url=ENDPOINT)  # type: ignore[call-overload]
    client.meta.events.register("before-send", stop)
    with pytest.raises(_Sent) as sent:
        getattr(client, method)(**arguments)
    found = sent.value.request
    return at_endpoint(found.url, found.method, _texts(found.headers), found.body or b"")


def _texts(headers: Any) -> dict[str, str]:
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in headers.items()}


def at_endpoint(url: str, method: str = "GET", headers: Any = None, body: Any = b"") -> Request:
    """A request as a server sees it."""
    path, _, query = url.removeprefix(ENDPOINT).partition("?")
    data = body if isinstance(body, bytes | str) else body.read()
    return Request(EnvironBuilder(path, query_string=query, method=method, headers=headers, data=data).get_environ())


@pytest.mark.parametrize(
    ("service", "method", "arguments", "action", "resource"),
    [
        ("s3", "get_object", OBJECT, "s3:GetObject", OBJECT_ARN),
        ("s3", "head_object", OBJECT, "s3:GetObject", OBJECT_ARN),
        ("s3", "put_object", {**OBJECT, "IfNoneMatch": "*", "Body": b"a"}, "s3:PutObject", OBJECT_ARN),
        ("s3", "delete_object", OBJECT, "s3:DeleteObject", OBJECT_ARN),
        ("s3", "create_multipart_upload", OBJECT, "s3:PutObject", OBJECT_ARN),
        ("s3", "upload_part", {**PART, "PartNumber": 1, "Body": b""}, "s3:PutObject", OBJECT_ARN),
        ("s3", "complete_multipart_upload", PART, "s3:PutObject", OBJECT_ARN),
        ("s3", "abort_multipart_upload", PART, "s3:AbortMultipartUpload", OBJECT_ARN),
        ("s3", "list_parts", PART, "s3:ListMultipartUploadParts", OBJECT_ARN),
        ("s3", "list_objects_v2", {"Bucket": "photos"}, "s3:ListBucket", "arn:aws:s3:::photos"),
        ("s3", "head_bucket", {"Bucket": "photos"}, "s3:ListBucket", "arn:aws:s3:::photos"),
        ("sqs", "receive_message", QUEUE, "sqs:ReceiveMessage", QUEUE_ARN),
        ("sqs", "delete_message_batch", {**QUEUE, "Entries": [MESSAGE]}, "sqs:DeleteMessage", QUEUE_ARN),
        (
            "sqs",
            "change_message_visibility_batch",
            {**QUEUE, "Entries": [MESSAGE]},
            "sqs:ChangeMessageVisibility",
            QUEUE_ARN,
        ),
        ("sqs", "get_queue_attributes", QUEUE, "sqs:GetQueueAttributes", QUEUE_ARN),
        ("sqs", "get_queue_url", {"QueueName": "jobs"}, "sqs:GetQueueUrl", QUEUE_ARN),
        ("sns", "publish", {"TopicArn": TOPIC, "Message": "a"}, "sns:Publish", TOPIC),
        ("logs", "create_log_stream", STREAM, "logs:CreateLogStream", STREAM_ARN),
        (
            "logs",
            "put_log_events",
            {**STREAM, "logEvents": [{"timestamp": 1, "message": "a"}]},
            "logs:PutLogEvents",
            STREAM_ARN,
        ),
        ("xray", "put_trace_segments", {"TraceSegmentDocuments": []}, "xray:PutTraceSegments", "*"),
        ("xray", "put_telemetry_records", {"TelemetryRecords": []}, "xray:PutTelemetryRecords", "*"),
    ],
)
def test_a_request_needs_a_permission(
    service: str, method: str, arguments: dict[str, Any], action: str, resource: str
) -> None:
    sent = request(service, method, arguments)
    (permission,) = needed(sent, service, PLACE)
    assert (permission.action, permission.resource) == (action, resource)
    assert iam_reference.takes(action, resource)
    assert all(iam_reference.knows(action, key) for key, _ in permission.keys)
    assert Credential.of(sent) == Credential("a-key", "eu-west-1", service)


def test_who_lists_says_what() -> None:
    (permission,) = needed(request("s3", "list_objects_v2", {"Bucket": "photos", "Prefix": "a/"}), "s3", PLACE)
    assert permission.keys == (("s3:prefix", "a/"),)


@pytest.mark.parametrize(("method", "action"), [("put_object", "s3:PutObject"), ("delete_object", "s3:DeleteObject")])
def test_a_write_on_condition_of_what_is_there_needs_to_read_it(method: str, action: str) -> None:
    found = needed(request("s3", method, {**OBJECT, "IfMatch": "etag"}), "s3", PLACE)
    assert found == [Permission(action, OBJECT_ARN), Permission("s3:GetObject", OBJECT_ARN)]


@pytest.mark.parametrize(
    ("service", "method", "arguments"),
    [
        ("s3", "list_buckets", {}),
        ("s3", "get_object_tagging", OBJECT),
        ("s3", "get_object", {**OBJECT, "VersionId": "1"}),
        ("s3", "copy_object", {**OBJECT, "CopySource": "photos/b"}),
        ("s3", "put_bucket_policy", {"Bucket": "photos", "Policy": "{}"}),
        ("s3", "get_bucket_policy", {"Bucket": "photos"}),
        ("s3", "delete_objects", {"Bucket": "photos", "Delete": {"Objects": [{"Key": "a"}]}}),
        ("sns", "subscribe", {"TopicArn": TOPIC, "Protocol": "sqs"}),
        ("sqs", "list_queues", {}),
        ("sqs", "create_queue", {"QueueName": "jobs"}),
        ("logs", "delete_log_group", {"logGroupName": "a"}),
        ("xray", "get_sampling_rules", {}),
        ("iam", "list_roles", {}),
    ],
)
def test_a_request_that_is_not_mapped_is_no_request_without_needs(
    service: str, method: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UnmappedRequest):
        needed(request(service, method, arguments), service, PLACE)


def test_a_presigned_url_is_its_signers_request() -> None:
    s3 = SESSION.client("s3", endpoint_url=ENDPOINT, config=Config(signature_version="s3v4"))
    url = s3.generate_presigned_url("get_object", Params=OBJECT)
    presigned = at_endpoint(url)
    assert Credential.of(presigned).access_key == "a-key"
    assert needed(presigned, "s3", PLACE) == [Permission("s3:GetObject", OBJECT_ARN)]


def test_a_request_that_nobody_signed_is_nobodys() -> None:
    with pytest.raises(UnmappedRequest):
        Credential.of(at_endpoint(f"{ENDPOINT}/photos/a"))


def test_what_is_published_has_its_attributes() -> None:
    attributes = {name: {"DataType": "String", "StringValue": f"{name} ü&="} for name in ("a", "b")}
    arguments = {"TopicArn": TOPIC, "Message": "a message", "MessageAttributes": attributes}
    published = Published.of(request("sns", "publish", arguments))
    expected = {name: {"Type": "String", "Value": f"{name} ü&="} for name in ("a", "b")}
    assert published == Published(TOPIC, "a message", expected)
