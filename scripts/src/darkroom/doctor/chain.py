"""The chain: every link on the way of a prompt to its picture, in the order in which one needs the other.

A link that is broken is the cause of the trouble if nothing before it is; what comes after it may be its consequence.
The dead-letter queue comes late, since a message comes there last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from darkroom.doctor import entrance, nodes, pods, results, routing, scaling
from darkroom.doctor.context import Context, NoKubernetes
from darkroom.doctor.finding import Finding, absent, unknown
from darkroom.programs import ProgramFailed

_DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "Forbidden", "403")
_SLOW_DOWN = ("Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown")


class Section(Enum):
    """Which part of the chain a link belongs to; a job that is followed stands before it."""

    JOB = "the job"
    ENTRANCE = "the way in"
    RUNTIME = "the runtime"
    EXIT = "the way out"


@dataclass(frozen=True)
class Link:
    """One link: what it is called, how it is looked at, and what one has to be allowed for that."""

    name: str
    look: Callable[[Context], Finding]
    section: Section
    #: Actions of IAM, and for Kubernetes ``get <resource>``.
    permissions: tuple[str, ...]


CHAIN = (
    Link("key", entrance.key, Section.ENTRANCE, ("apigateway:GET",)),
    Link("gateway", entrance.gateway, Section.ENTRANCE, ("apigateway:GET",)),
    Link(
        *("function", entrance.function, Section.ENTRANCE),
        ("lambda:GetFunction", "lambda:GetFunctionConcurrency", "lambda:GetPolicy", "cloudwatch:GetMetricStatistics"),
    ),
    Link("answer", entrance.answer, Section.ENTRANCE, ()),
    Link("topic", routing.topic, Section.ENTRANCE, ("sns:GetTopicAttributes",)),
    Link("push", scaling.push, Section.RUNTIME, ("get applications.argoproj.io",)),
    Link("composite", scaling.composite, Section.RUNTIME, ("get modelruntimes.darkroom.dev",)),
    Link("registry", routing.registry, Section.RUNTIME, ("s3:GetObject", "s3:ListBucket")),
    Link(
        *("subscription", routing.subscription, Section.RUNTIME),
        ("sns:ListSubscriptionsByTopic", "sns:GetSubscriptionAttributes"),
    ),
    Link("queue", routing.queue, Section.RUNTIME, ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")),
    Link("scaler", scaling.scaler, Section.RUNTIME, ("get scaledobjects.keda.sh", "list pods", "list events")),
    Link(
        *("deployment", scaling.deployment, Section.RUNTIME),
        ("get deployments.apps", "get horizontalpodautoscalers.autoscaling"),
    ),
    Link("model", results.model, Section.RUNTIME, ("s3:GetObject", "s3:ListBucket")),
    Link(
        *("nodes", nodes.nodes, Section.RUNTIME),
        ("get nodepools.karpenter.sh", "list nodeclaims.karpenter.sh", "list pods", "list events"),
    ),
    Link("pods", pods.pods, Section.RUNTIME, ("list pods", "list events", "get pods/log")),
    Link("engine", pods.engine, Section.RUNTIME, ("list pods", "get pods/log")),
    Link("backlog", pods.backlog, Section.RUNTIME, ("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "list pods")),
    Link("dead letters", routing.dead_letters, Section.RUNTIME, ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")),
    Link("outputs", results.outputs, Section.EXIT, ("s3:ListBucket",)),
    Link(
        *("notification", results.notification, Section.EXIT),
        ("sns:ListSubscriptionsByTopic", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"),
    ),
)


@dataclass(frozen=True)
class Examined:
    """A link, and what was found."""

    name: str
    finding: Finding
    #: The runtime whose it is; None for what all runtimes share.
    runtime: str | None
    section: Section
    #: Whether it is broken and nothing before it in the chain is.
    is_cause: bool = False


def examine(contexts: Iterable[Context], chain: tuple[Link, ...] = CHAIN) -> Iterator[Examined]:
    """Look at the links, in order: what all runtimes share once, and the others for each runtime. It raises nothing."""
    contexts = list(contexts)
    shared_is_wrong = any_is_wrong = False
    for section in Section:
        for it in contexts if section is Section.RUNTIME else contexts[:1]:
            is_wrong = any_is_wrong if section is Section.EXIT else shared_is_wrong
            for link in chain:
                if link.section is not section:
                    continue
                finding = look(link, it)
                runtime = it.runtime if section is Section.RUNTIME else None
                yield Examined(link.name, finding, runtime, section, is_cause=finding.is_wrong and not is_wrong)
                is_wrong |= finding.is_wrong
            any_is_wrong |= is_wrong
            if section is Section.ENTRANCE:
                shared_is_wrong = is_wrong


def look(link: Link, it: Context) -> Finding:
    """What a look at a link says, whatever becomes of it; it raises nothing."""
    try:
        return link.look(it)
    except NoKubernetes as error:
        return absent("a local stack has no Kubernetes") if it.is_local else unknown(f"Kubernetes: {error}")
    except ClientError as error:
        return _refused(link, error)
    except (BotoCoreError, httpx.HTTPError) as error:
        return unknown(f"it cannot be asked: {error}")
    except ProgramFailed as error:
        needed = " or ".join(each for each in link.permissions if " " in each)
        remedy = (f"to be allowed to {needed}",) if "Forbidden" in str(error) else ()
        return unknown(str(error).splitlines()[-1].strip(), *remedy)
    # What AWS or Kubernetes says is not as it is known to be.
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        return unknown(f"what was answered is not understood: {type(error).__name__}: {error}")


def _refused(link: Link, error: ClientError) -> Finding:
    """AWS did not let us look, or not now."""
    code = error.response["Error"]["Code"]
    if code in _DENIED:
        actions = " and ".join(each for each in link.permissions if ":" in each)
        return unknown(f"AWS does not let you look ({error.operation_name})", f"to be allowed {actions}")
    if code in _SLOW_DOWN:
        return unknown("AWS is asked too often now (by you or by others)", "run the command again in a minute")
    return unknown(f"AWS: {error}")
