"""The runtime's pods, and what runs in them, as Kubernetes tells it."""

from __future__ import annotations

import time
from datetime import timedelta

from darkroom.doctor.context import NAMESPACE, PAUSE_SECONDS, Context
from darkroom.doctor.finding import Finding, absent, ok, wrong
from darkroom.doctor.objects import age, containers, is_ready, waits_for_node
from darkroom.doctor.routing import attributes_of, in_hand
from darkroom.kubectl import Object
from darkroom.programs import ProgramFailed

#: What a container waits for that will not come by waiting.
_HOPELESS = (
    *("CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName"),
    *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
)
_IMAGE = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName")
#: How long a pod may be about something: a node comes, its images are pulled, its model is read (docs/cold-start.md has
#: two to four minutes). Then somebody wants to know.
_PATIENCE = timedelta(minutes=15)
_LAST_LINES = 5


def pods(it: Context) -> Finding:
    """What the runtime's pods wait for or fail at."""
    for pod in it.pods:
        if finding := _failing(it, pod) or _waiting(it, pod):
            return finding
    if it.pods:
        return ok(", ".join(f"{each['metadata']['name']} {each.get('status', {}).get('phase')}" for each in it.pods))
    return ok("none: they come with the first message, and go when there is nothing to do")


def engine(it: Context) -> Finding:
    """Whether the engine answers its agent, and does so for long."""
    for pod in it.pods:
        name = pod["metadata"]["name"]
        killed = _killed(pod)
        if killed:
            words = f"the engine of {name} was killed {killed[0]} times, the last time by {killed[1]}"
            remedy = f"raise resources.memory in {it.runtime_file}, or use a smaller model"
            return wrong(words, remedy if killed[1] == "OOMKilled" else _log_command(name, "engine", previous=True))
        agent = next(containers(pod, "agent"), {})
        if "running" in agent.get("state", {}) and not agent.get("ready"):
            since = age(agent["state"]["running"].get("startedAt"))
            if since > timedelta(minutes=2):
                said = _last_words(it, name, "agent")
                words = f"the agent of {name} takes no jobs: its engine gives no good answer. Its last words: {said}"
                return wrong(words, _log_command(name, "engine"), _log_command(name, "agent"))
    ready = [pod for pod in it.pods if is_ready(pod)]
    return ok(f"{len(ready)} ready") if ready else absent("no pod is up, so that there is none to ask")


def backlog(it: Context) -> Finding:
    """Whether what waits is taken by somebody, where there is somebody to take it."""
    name = it.names.runtime_queue(it.runtime)
    if it.kubernetes is not None and not any(map(is_ready, it.pods)):
        return absent("no pod is up to take messages")
    counts = [_counts(it, name)]
    if counts[0][0] and not counts[0][1]:  # an agent that has nothing to do takes a message at once
        time.sleep(PAUSE_SECONDS)
        counts.append(_counts(it, name))
    waiting, held = counts[-1]
    if all(each[0] and not each[1] for each in counts):
        words = f"{waiting} message{'s' * (waiting > 1)} wait, and no agent takes any"
        selector = f"app.kubernetes.io/instance={it.runtime}"
        logs = f"kubectl -n {NAMESPACE} logs -l {selector} -c agent --tail=50"
        return wrong(words, f"see .demo/logs/local/agent-{it.runtime}.log" if it.is_local else logs)
    return ok(f"{waiting} waiting, {held} in hand")


def _counts(it: Context, queue: str) -> tuple[int, int]:
    attributes = attributes_of(it, queue)
    return (int(attributes["ApproximateNumberOfMessages"]), in_hand(attributes)) if attributes else (0, 0)


def _failing(it: Context, pod: Object) -> Finding | None:
    """The container that fails again and again, or whose image does not come."""
    name = pod["metadata"]["name"]
    for container in containers(pod):
        reason = container.get("state", {}).get("waiting", {}).get("reason")
        if reason not in _HOPELESS:
            continue
        what, said = container["name"], container["state"]["waiting"].get("message", "")
        if reason in _IMAGE:
            words = f"the image of {what} in {name} cannot be pulled ({reason}): {container.get('image', '')} {said}"
            return wrong(words.strip(), f"kubectl -n {NAMESPACE} describe pod {name}", f"darkroom pin {it.folder}")
        last = container.get("lastState", {}).get("terminated", {})
        if last.get("reason") == "OOMKilled":
            remedy = f"raise resources.memory in {it.runtime_file}, and push it"
            return wrong(f"{what} in {name} needs more memory than it may have (OOMKilled)", remedy)
        words = _one_line(last.get("message", "")) or _last_words(it, name, what, previous=True) or said
        return wrong(f"{what} in {name} ends again and again: {words}", _log_command(name, what, previous=True))
    return None


def _waiting(it: Context, pod: Object) -> Finding | None:
    """What keeps a pod from its start."""
    name = pod["metadata"]["name"]
    describe = f"kubectl -n {NAMESPACE} describe pod {name}"
    is_pending = pod.get("status", {}).get("phase") == "Pending"
    there = list(containers(pod))
    failures = it.said_of("Pod", name, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
    if failures and is_pending and not any("running" in each.get("state", {}) for each in there):
        return wrong(f"{name} cannot be set up: {failures[0]}", describe)
    if waits_for_node(pod) and (unfit := _unfit(it, name)):
        remedy = f"see gpu, capacity and resources in {it.runtime_file}"
        return wrong(f"no node fits {name}: {unfit}", remedy, describe)
    if is_ready(pod) or age(pod["metadata"]["creationTimestamp"]) < _PATIENCE:
        return None
    of_scheduler = it.said_of("Pod", name, "FailedScheduling")[:1]
    said = " ".join(of_scheduler if waits_for_node(pod) else _words_of_unready(it, name, there))
    return wrong(f"{name} is not ready since {pod['metadata']['creationTimestamp']}. {said}", describe)


def _words_of_unready(it: Context, pod: str, there: list[Object]) -> list[str]:
    """What the containers say that run and are not ready."""
    unready = [each["name"] for each in there if "running" in each.get("state", {}) and not each.get("ready")]
    return [f"{name}: {words}" for name in unready if (words := _last_words(it, pod, name))]


def _unfit(it: Context, pod: str) -> str | None:
    """What Karpenter says of a pod that none of its nodes would do for."""
    said = it.said_of("Pod", pod, "FailedScheduling")
    return next((each for each in said if "incompatible" in each or "no instance type" in each), None)


def _killed(pod: Object) -> tuple[int, str] | None:
    """How often the engine was started again, and why last, if that is more than now and then."""
    container = next(containers(pod, "engine"), {})
    restarts = container.get("restartCount", 0)
    reason = container.get("lastState", {}).get("terminated", {}).get("reason", "Error")
    return (restarts, reason) if restarts >= (1 if reason == "OOMKilled" else 3) else None


def _last_words(it: Context, pod: str, container: str, *, previous: bool = False) -> str:
    """The last lines of a container's log, as one; nothing where there is none."""
    before = ("--previous",) if previous else ()
    where = ("--namespace", NAMESPACE, "--container", container, f"--tail={_LAST_LINES}")
    try:
        said = it.kubectl.run("logs", pod, *where, *before)
    except ProgramFailed:  # there is no log any more, or no kubelet that has it
        return ""
    return _one_line(said)


def _one_line(text: str) -> str:
    """The last lines of a text, as one."""
    return " / ".join(line.strip() for line in text.splitlines()[-_LAST_LINES:] if line.strip())


def _log_command(pod: str, container: str, *, previous: bool = False) -> str:
    return f"kubectl -n {NAMESPACE} logs {pod} -c {container}{' --previous' * previous}"
