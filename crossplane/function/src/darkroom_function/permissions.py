"""What each role of a cluster may do: the statements of its policy. Pure."""

from collections.abc import Sequence

from darkroom_contract.names import (
    JANITOR_KEY,
    JOBS_PREFIX,
    REGISTRY_PREFIX,
    WORKFLOWS_PREFIX,
    Bucket,
    JobFact,
    Names,
    job_key,
)
from darkroom_function.policy import Statement, allow


def api(names: Names) -> list[Statement]:
    """What the API's function may do."""
    return [
        allow("PublishPrompts", ["sns:Publish"], [names.topic_arn(names.prompt_topic)]),
        allow("RecordJobs", ["s3:PutObject"], _job_facts(names, JobFact.REQUEST, JobFact.PUBLISHED, JobFact.CANCEL)),
        allow(
            "ReadJobsAndRegistry",
            ["s3:GetObject"],
            [_keys(names, Bucket.JOBS, f"{prefix}*") for prefix in (JOBS_PREFIX, REGISTRY_PREFIX, WORKFLOWS_PREFIX)],
        ),
        _list_jobs_bucket(names),
        allow("ReadOutputs", ["s3:GetObject"], [_keys(names, Bucket.OUTPUTS, "*")]),
        allow("WriteLog", ["logs:CreateLogStream", "logs:PutLogEvents"], [names.log_group_arn(names.api_log_group)]),
        # X-Ray knows no resources for these.
        allow("Trace", ["xray:PutTelemetryRecords", "xray:PutTraceSegments"], ["*"]),
    ]


def agent(names: Names, runtime: str, input_buckets: Sequence[str]) -> list[Statement]:
    """What the queue agent of a runtime may do; ``runtime`` may be a pattern."""
    statements = [
        allow(
            "ReceiveJobs",
            ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"],
            [names.queue_arn(names.runtime_queue(runtime))],
        ),
        allow("GiveUpJobs", ["sqs:SendMessage"], [names.queue_arn(names.dead_letter_queue(runtime))]),
        allow("Notify", ["sns:Publish"], [names.topic_arn(names.result_topic)]),
        allow("ReadJobs", ["s3:GetObject"], [_keys(names, Bucket.JOBS, f"{JOBS_PREFIX}*")]),
        allow("RecordJobs", ["s3:PutObject"], _job_facts(names, JobFact.STATE, JobFact.RESULT)),
        _list_jobs_bucket(names),
        allow("SaveAndReadOutputs", ["s3:GetObject", "s3:PutObject"], [_keys(names, Bucket.OUTPUTS, "*")]),
    ]
    if input_buckets:
        inputs = [names.bucket_arn(bucket, "*") for bucket in input_buckets]
        statements.append(allow("ReadInputs", ["s3:GetObject"], inputs))
    return statements


def keda(names: Names) -> list[Statement]:
    """What the KEDA operator may do: see how long the runtimes' queues are."""
    return [allow("MeasureQueues", ["sqs:GetQueueAttributes"], [names.queue_arn(names.runtime_queue("*"))])]


def mountpoint(names: Names) -> list[Statement]:
    """What Mountpoint may do: read the models."""
    models = names.bucket(Bucket.MODELS)
    return [
        allow("ListModels", ["s3:ListBucket"], [names.bucket_arn(models)]),
        allow("ReadModels", ["s3:GetObject"], [names.bucket_arn(models, "*")]),
    ]


def janitor(names: Names) -> list[Statement]:
    """What the janitor may do: look for jobs whose runtime is gone, and answer them."""
    memory = _keys(names, Bucket.JOBS, JANITOR_KEY)
    return [
        allow("ListJobsAndRegistry", ["s3:ListBucket"], [names.bucket_arn(names.bucket(Bucket.JOBS))]),
        allow("ReadJobs", ["s3:GetObject"], [_keys(names, Bucket.JOBS, f"{JOBS_PREFIX}*"), memory]),
        allow("AnswerJobs", ["s3:PutObject"], [*_job_facts(names, JobFact.ANSWERING, JobFact.RESULT), memory]),
        allow("EndAnswers", ["s3:DeleteObject"], _job_facts(names, JobFact.ANSWERING)),
        allow("LookForQueues", ["sqs:GetQueueAttributes"], [names.queue_arn(names.runtime_queue("*"))]),
        allow("Notify", ["sns:Publish"], [names.topic_arn(names.result_topic)]),
    ]


def _list_jobs_bucket(names: Names) -> Statement:
    # Without it S3 answers 403 for a key that is not there. A condition on s3:prefix would undo that, since a request
    # for a key has no prefix.
    return allow("TellMissingFromForbidden", ["s3:ListBucket"], [names.bucket_arn(names.bucket(Bucket.JOBS))])


def _job_facts(names: Names, *facts: JobFact) -> list[str]:
    return [_keys(names, Bucket.JOBS, job_key("*", "*", fact)) for fact in facts]


def _keys(names: Names, bucket: Bucket, pattern: str) -> str:
    return names.bucket_arn(names.bucket(bucket), pattern)
