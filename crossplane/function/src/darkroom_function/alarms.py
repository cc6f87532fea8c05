"""CloudWatch's alarms of what a cluster has. Pure.

Queues that nothing comes to, and an API that nobody calls, have no data: that is no reason for an alarm. None watches
the function's duration, since what takes too long is an error of the function.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

from darkroom_contract.cluster import Alarms, AlarmTopic, ApiSettings
from darkroom_contract.names import Names, Problem, alarm_name
from darkroom_function.apis import PromptApiSpec
from darkroom_function.kinds import Kind
from darkroom_function.managed import Managed, Owner

#: SQS has its numbers ready within minutes, API Gateway and Lambda each minute.
_PERIOD_SECONDS = 300


@dataclass(frozen=True)
class _Metric:
    namespace: str
    name: str
    statistic: str
    dimensions: dict[str, JsonValue]


@dataclass(frozen=True)
class _Alarm:
    """From the threshold on, in one period, or in two of three where it has to last."""

    resource: str
    problem: Problem
    metric: _Metric
    words: str
    threshold: int = 1
    lasting: bool = False


def of_runtime(owner: Owner, names: Names, runtime: str, alarms: Alarms | None) -> Iterator[Managed]:
    """That a prompt waits too long, and that there are dead letters."""
    if alarms is not None:
        yield _managed(owner, alarms, _waits_long(names, runtime, alarms.longest_wait_minutes))
        yield _managed(owner, alarms, _dead_letters(names, runtime))


def of_api(owner: Owner, names: Names, spec: PromptApiSpec) -> Iterator[Managed]:
    """That the API fails, or that a notification did not reach its queue."""
    if spec.alarms is not None:
        for alarm in (_undelivered(names), *_failures(names, spec.api)):
            yield _managed(owner, spec.alarms, alarm)


def _waits_long(names: Names, runtime: str, minutes: int) -> _Alarm:
    queue = names.runtime_queue(runtime)
    return _Alarm(
        queue,
        Problem.WAITS_LONG,
        _Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", "Maximum", {"QueueName": queue}),
        f"A prompt for the runtime {runtime} has waited for more than {minutes} minutes. See whether its pods start "
        "(kubectl get pods, events, Karpenter's log), and what its agent logs. SQS leaves out prompts that were "
        "received three times or more.",
        threshold=minutes * 60,
    )


def _dead_letters(names: Names, runtime: str) -> _Alarm:
    return _not_empty(
        names.dead_letter_queue(runtime),
        f"Jobs of the runtime {runtime} were given up. See which, and why: darkroom runtime redrive {runtime} "
        f"--cluster clusters/{names.cluster}. SQS keeps them for 14 days; those that it moved itself, for 14 days from "
        "when they were first sent.",
    )


def _undelivered(names: Names) -> _Alarm:
    return _not_empty(
        names.result_dead_letter_queue,
        f"Notifications did not reach the queue {names.result_topic}. See whether it is there with its policy; the "
        f"messages are in the queue {names.result_dead_letter_queue} for 14 days.",
    )


def _failures(names: Names, api: ApiSettings) -> Iterator[_Alarm]:
    function: dict[str, JsonValue] = {"FunctionName": names.api}
    yield _Alarm(
        names.api,
        Problem.FUNCTION_FAILS,
        _Metric("AWS/Lambda", "Errors", "Sum", function),
        f"The API's function failed, or took longer than {api.timeout} seconds. See its log, {names.api_log_group}.",
    )
    # Clients are told to come again, so that once is nothing: these say that it goes on.
    yield _Alarm(
        names.api,
        Problem.FUNCTION_THROTTLED,
        _Metric("AWS/Lambda", "Throttles", "Sum", function),
        "Lambda turns requests to the API away, again and again. Raise api.concurrency in cluster.yaml, or the "
        "account's quota of concurrent executions.",
        lasting=True,
    )
    yield _Alarm(
        names.api,
        Problem.SERVER_ERRORS,
        _Metric("AWS/ApiGateway", "5XXError", "Sum", {"ApiName": names.api, "Stage": api.stage}),
        f"The API answers with 5xx, again and again. See the function's log, {names.api_log_group}, and X-Ray.",
        lasting=True,
    )


def _not_empty(queue: str, words: str) -> _Alarm:
    metric = _Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", {"QueueName": queue})
    return _Alarm(queue, Problem.NOT_EMPTY, metric, words)


def _managed(owner: Owner, alarms: AlarmTopic, alarm: _Alarm) -> Managed:
    """The alarm as a resource. Nothing waits for it: without it everything works."""
    periods, breaching = (3, 2) if alarm.lasting else (1, 1)
    return owner.managed(
        Kind.METRIC_ALARM,
        f"alarm.{alarm.problem}",
        {
            "alarmDescription": alarm.words,
            "namespace": alarm.metric.namespace,
            "metricName": alarm.metric.name,
            "dimensions": alarm.metric.dimensions,
            "statistic": alarm.metric.statistic,
            "period": _PERIOD_SECONDS,
            "evaluationPeriods": periods,
            "datapointsToAlarm": breaching,
            "threshold": alarm.threshold,
            "comparisonOperator": "GreaterThanOrEqualToThreshold",
            "treatMissingData": "notBreaching",
            "alarmActions": [alarms.topic_arn],
            "okActions": [alarms.topic_arn],
        },
        external_name=alarm_name(alarm.resource, alarm.problem),
        awaited=False,
    )
