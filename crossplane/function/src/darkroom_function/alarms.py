"""CloudWatch's alarms of what a cluster has. Pure.

Queues that nothing comes to, and an API that nobody calls, have no data: that is no reason for an alarm. None watches
the function's duration, since what takes too long is an error of the function.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from darkroom_contract.cluster import Alarms
from darkroom_contract.names import Names, Problem, alarm_name
from darkroom_function.apis import PromptApiSpec
from darkroom_function.managed import Kind, Managed, Owner

#: SQS has its numbers ready within minutes, API Gateway and Lambda each minute.
_PERIOD_SECONDS = 300


@dataclass(frozen=True)
class _Metric:
    namespace: str
    name: str
    statistic: str
    dimensions: dict[str, JsonValue]


def of_runtime(owner: Owner, names: Names, runtime: str, alarms: Alarms | None) -> Iterator[Managed]:
    """That a prompt waits too long, and that there are dead letters."""
    if alarms is None:
        return
    queue = names.runtime_queue(runtime)
    yield _alarm(
        owner,
        alarms,
        queue,
        Problem.WAITS_LONG,
        _Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", {"QueueName": queue}),
        f"A prompt for the runtime {runtime} has waited for more than {alarms.longest_wait_minutes} minutes. See "
        "whether its pods start (kubectl get pods, events, Karpenter's log), and what its agent logs.",
        threshold=alarms.longest_wait_minutes * 60,
    )
    yield _not_empty(
        owner,
        alarms,
        names.dead_letter_queue(runtime),
        f"Jobs of the runtime {runtime} were given up. See which, and why: darkroom runtime redrive {runtime} "
        f"--cluster clusters/{names.cluster}. SQS keeps them for 14 days.",
    )


def of_api(owner: Owner, names: Names, spec: PromptApiSpec) -> Iterator[Managed]:
    """That the API fails, or that a notification did not reach its queue."""
    alarms = spec.alarms
    if alarms is None:
        return
    yield _not_empty(
        owner,
        alarms,
        names.result_dead_letter_queue,
        f"Notifications did not reach the queue {names.result_topic}. See whether it is there with its policy; the "
        f"messages are in the queue {names.result_dead_letter_queue} for 14 days.",
    )
    function: dict[str, JsonValue] = {"FunctionName": names.api}
    yield _alarm(
        owner,
        alarms,
        names.api,
        Problem.FUNCTION_FAILS,
        _Metric("AWS/Lambda", "Errors", "Sum", function),
        f"The API's function failed, or took longer than {spec.api.timeout} seconds. See its log, "
        f"{names.api_log_group}.",
    )
    # Clients are told to come again, so that once is nothing: these say that it goes on.
    yield _alarm(
        owner,
        alarms,
        names.api,
        Problem.FUNCTION_THROTTLED,
        _Metric("AWS/Lambda", "Throttles", "Sum", function),
        "Lambda turns requests to the API away, again and again. Raise api.concurrency in cluster.yaml, or the "
        "account's quota of concurrent executions.",
        lasting=True,
    )
    yield _alarm(
        owner,
        alarms,
        names.api,
        Problem.SERVER_ERRORS,
        _Metric("AWS/ApiGateway", "5XXError", "Sum", {"ApiName": names.api, "Stage": spec.api.stage}),
        f"The API answers with 5xx, again and again. See the function's log, {names.api_log_group}, and X-Ray.",
        lasting=True,
    )


def _not_empty(owner: Owner, alarms: Alarms, queue: str, words: str) -> Managed:
    metric = _Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", {"QueueName": queue})
    return _alarm(owner, alarms, queue, Problem.NOT_EMPTY, metric, words)


def _alarm(  # noqa: PLR0913
    owner: Owner,
    alarms: Alarms,
    resource: str,
    problem: Problem,
    metric: _Metric,
    words: str,
    *,
    threshold: int = 1,
    lasting: bool = False,
) -> Managed:
    """From the threshold on, in one period, or in two of three where it has to last."""
    periods, breaching = (3, 2) if lasting else (1, 1)
    return owner.managed(
        Kind.METRIC_ALARM,
        f"alarm.{problem}",
        {
            "alarmDescription": words,
            "namespace": metric.namespace,
            "metricName": metric.name,
            "dimensions": metric.dimensions,
            "statistic": metric.statistic,
            "period": _PERIOD_SECONDS,
            "evaluationPeriods": periods,
            "datapointsToAlarm": breaching,
            "threshold": threshold,
            "comparisonOperator": "GreaterThanOrEqualToThreshold",
            "treatMissingData": "notBreaching",
            "alarmActions": [alarms.topic_arn],
            "okActions": [alarms.topic_arn],
        },
        external_name=alarm_name(resource, problem),
    )
