"""The way out, and what it needs: the model, the bucket of pictures, and who is told."""

from __future__ import annotations

from botocore.exceptions import ClientError

from darkroom.doctor.context import NAMESPACE, Context
from darkroom.doctor.finding import Finding, absent, ok, wrong
from darkroom.doctor.routing import attributes_of, in_hand, lets_send, subscribed
from darkroom_contract.names import Bucket

_MISSING = ("404", "NoSuchKey", "NoSuchBucket", "NotFound")


def model(it: Context) -> Finding:
    """The checkpoint, and the sets of custom nodes, in the bucket of models."""
    runtime, bucket = it.description, it.names.bucket(Bucket.MODELS)
    if it.is_local:
        return absent("the demo runtimes need no model")
    if it.files.cluster.models.efs:
        return absent("the models are on EFS: what is missing there, the log of read-ahead says")
    if not bucket_is_there(it, bucket):
        return wrong(f"there is no bucket {bucket}", f"kubectl -n {NAMESPACE} describe storage")
    if runtime.checkpoint:
        key = f"checkpoints/{runtime.checkpoint}"
        if not is_there(it, bucket, key):
            folder, _, file = key.rpartition("/")
            words = f"the checkpoint is not there: s3://{bucket}/{key}"
            return wrong(words, it.command(f"models push {file} --to {folder}"))
    if name := runtime.custom_nodes:
        prefix = f"{name}/"
        if not it.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents"):
            words = f"the custom nodes are not there: s3://{bucket}/{prefix}"
            return wrong(words, f"aws s3 cp --recursive {name} s3://{bucket}/{prefix}")
    return ok(runtime.checkpoint or "the runtime names none; its workflows do")


def outputs(it: Context) -> Finding:
    """The bucket that pictures are saved to."""
    bucket = it.names.bucket(Bucket.OUTPUTS)
    if not bucket_is_there(it, bucket):
        return wrong(f"there is no bucket {bucket}", f"kubectl -n {NAMESPACE} describe storage")
    return ok(bucket)


def notification(it: Context) -> Finding:
    """Whether those who want to know of a picture are told."""
    names = it.names
    describe = f"kubectl -n {NAMESPACE} describe promptapi"
    queue_arn = names.queue_arn(names.result_topic)
    try:
        found = subscribed(it, names.result_topic, queue_arn)
    except it.sns.exceptions.NotFoundException:
        return wrong(f"there is no topic {names.result_topic}", describe)
    attributes = attributes_of(it, names.result_topic)
    if attributes is None:
        return wrong(f"there is no queue {names.result_topic}, which keeps the notifications", describe)
    if found is None:
        return wrong(f"the queue {names.result_topic} is not subscribed to the topic of that name", describe)
    if not lets_send(attributes, queue_arn, names.topic_arn(names.result_topic)):
        return wrong(f"the policy of the queue {names.result_topic} does not let its topic send", describe)
    lost = attributes_of(it, names.result_dead_letter_queue)
    if lost and (count := int(lost["ApproximateNumberOfMessages"]) + in_hand(lost)):
        url = names.queue_url(names.result_dead_letter_queue)
        words = f"{count} notification{'s' * (count > 1)} could not be delivered to the queue {names.result_topic}"
        return wrong(words, f"aws sqs receive-message --queue-url {url} --max-number-of-messages 10")
    return _subscribers(it) or ok(f"{attributes['ApproximateNumberOfMessages']} in the queue {names.result_topic}")


def _subscribers(it: Context) -> Finding | None:
    """The first of the cluster's own subscribers who is not told."""
    for subscriber in it.files.cluster.subscribers:
        found = subscribed(it, it.names.result_topic, subscriber.endpoint)
        if found is None:
            words = f"the subscriber {subscriber.name} is not subscribed"
            return wrong(
                words,
                f"kubectl -n {NAMESPACE} describe topicsubscriptions -l darkroom.dev/subscriber={subscriber.name}",
            )
        if found["SubscriptionArn"] == "PendingConfirmation":
            words = f"the subscriber {subscriber.name} has not confirmed, and is told nothing"
            return wrong(words, "open the link that SNS sent to it, or have its endpoint fetch the SubscribeURL")
    return None


def bucket_is_there(it: Context, bucket: str) -> bool:
    """Whether a bucket exists; raises botocore's other errors."""
    try:
        it.s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return False
        raise
    return True


def is_there(it: Context, bucket: str, key: str) -> bool:
    """Whether an object exists; raises botocore's other errors."""
    try:
        it.s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return False
        raise
    return True
