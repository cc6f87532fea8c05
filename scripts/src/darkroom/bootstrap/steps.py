"""Steps that bring a cluster up: what a step is, what all of them share, and what runs them.

A step knows from reality alone, AWS, Kubernetes and the registry, whether it is done. No file remembers anything: a run
that was killed, or that failed, is gone on with by running it again, and a second run changes nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from darkroom import account, kubectl
from darkroom.cluster_files import ClusterFiles
from darkroom.trouble import Trouble
from darkroom_contract.cluster import Cluster
from darkroom_contract.gitops import GitOps
from darkroom_contract.names import Names

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client
    from types_boto3_ecr import ECRClient
    from types_boto3_eks import EKSClient
    from types_boto3_iam import IAMClient

_T = TypeVar("_T")
#: How often a log that nobody watches says that there is still somebody waiting, in seconds.
_SIGN_OF_LIFE = 30


class StepFailed(Trouble):
    """A step failed, or did not reach what it is for; the message names it."""


class ActRequired(Trouble):
    """A person has to do something before it goes on.

    The message says what. ``then`` is the command to type afterwards; absent: the one that was typed.
    """

    def __init__(self, words: str, then: str | None = None) -> None:
        super().__init__(words)
        self.then = then


class Removable(Protocol):
    """Something that can be taken away."""

    @property
    def title(self) -> str:
        """What is there, in a few words: it is shown before, while and after it is made, or taken away."""
        ...

    def undo(self) -> None:
        """Take it away, as far as it is there. What other clusters share is left to them."""
        ...


class Step(Removable, Protocol):
    """Something that has to be there, and how it gets there; ``undo`` takes away what ``do`` makes."""

    def is_done(self) -> bool:
        """Whether all is as it has to be. It changes nothing.

        False, and no error, where what it builds upon is not there yet: a dry run asks all steps.
        """
        ...

    def do(self) -> None:
        """Make it so, from wherever an earlier run may have ended. Raises ``ActRequired`` where a person has to."""
        ...


@dataclass(frozen=True)
class Options:
    """How a run goes about it."""

    dry_run: bool = False
    """Say what would be done, and change nothing."""
    poll_seconds: float = 5
    """The time between two looks at what is waited for."""
    wait_seconds: float = 1800
    """The longest that anything is waited for."""
    settle_seconds: float = 30
    """The longest that AWS may take to show what it was told."""


@dataclass
class Context:
    """What all steps share: the cluster, and the ways to it. Nothing is asked before it is needed."""

    folder: Path
    """The cluster's folder, as the user named it: ``clusters/<cluster>``."""
    files: ClusterFiles
    console: Console
    options: Options = field(default_factory=Options)
    action: str = "bootstrap"
    """The command that was typed, ``darkroom bootstrap`` or ``destroy``, for the words on how to go on."""
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def cluster(self) -> Cluster:
        """What cluster.yaml says."""
        return self.files.cluster

    @property
    def names(self) -> Names:
        """The AWS names of the cluster."""
        return self.cluster.names

    @property
    def root(self) -> Path:
        """The root of the repository: the folder that has ``clusters/``."""
        return self.folder.resolve().parents[1]

    @property
    def command(self) -> str:
        """What to type to go on."""
        return f"darkroom {self.action} {self.folder}"

    @cached_property
    def session(self) -> boto3.Session:
        """AWS, in the cluster's account and region; raises ``account.WrongAccount``."""
        return account.session(self.cluster.location)

    @cached_property
    def ec2(self) -> "EC2Client":
        """A client of EC2; making one takes longer than most calls."""
        return self.session.client("ec2")

    @cached_property
    def ecr(self) -> "ECRClient":
        """A client of ECR."""
        return self.session.client("ecr")

    @cached_property
    def eks_client(self) -> "EKSClient":
        """A client of EKS."""
        return self.session.client("eks")

    @cached_property
    def iam(self) -> "IAMClient":
        """A client of IAM."""
        return self.session.client("iam")

    def eks(self) -> str | None:
        """How EKS says that the cluster is, ``ACTIVE`` say; None where there is none."""
        client = self.eks_client
        try:
            return client.describe_cluster(name=self.cluster.eks_name)["cluster"]["status"]
        except client.exceptions.ResourceNotFoundException:
            return None

    @property
    def eks_runs(self) -> bool:
        """Whether there is a cluster whose API answers: it does while EKS changes something of it, too."""
        return self.eks() in ("ACTIVE", "UPDATING")

    @property
    def kubernetes(self) -> kubectl.Kubectl | None:
        """The cluster's Kubernetes API; None as long as there is none."""
        return self._kubectl if "_kubectl" in vars(self) or self.eks_runs else None

    @property
    def gitops(self) -> GitOps:
        """The repository that Argo CD follows; raises ``StepFailed`` where the cluster has none."""
        if self.cluster.gitops is None:
            raise StepFailed(f"Argo CD has nothing to follow: say gitops.repository in {self.folder}/cluster.yaml")
        return self.cluster.gitops

    @property
    def k8s(self) -> kubectl.Kubectl:
        """The cluster's Kubernetes API; raises ``StepFailed`` where there is none."""
        if (found := self.kubernetes) is None:
            raise StepFailed(f"there is no EKS cluster {self.cluster.eks_name} that runs")
        return found

    @cached_property
    def _kubectl(self) -> kubectl.Kubectl:
        return self._stack.enter_context(kubectl.of(self.cluster.location))

    def say(self, words: str) -> None:
        """A line for whoever watches."""
        self.console.print(f"    {escape(words)}")

    def wait(self, what: str, until: Callable[[], _T | None]) -> _T:
        """Wait until something answers with neither None nor False, with the time on the terminal; that answer.

        Raises ``StepFailed`` after ``Options.wait_seconds``.
        """
        start = signed = time.monotonic()
        with _clock(self.console, what):
            while not (answer := until()):
                now = time.monotonic()
                if now - start > self.options.wait_seconds:
                    raise StepFailed(f"{what}: still not so after {now - start:.0f} s")
                if not self.console.is_terminal and now - signed > _SIGN_OF_LIFE:
                    self.say(f"{what}: {now - start:.0f} s")
                    signed = now
                time.sleep(self.options.poll_seconds)
        return answer

    def close(self) -> None:
        """Let go of the kubeconfig."""
        self._stack.close()


@contextmanager
def _clock(console: Console, what: str) -> Iterator[None]:
    columns = (TextColumn("   "), SpinnerColumn(), TextColumn(escape(what)), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield


def run(steps: Sequence[Step], context: Context) -> None:
    """Do every step that is not done, in their order.

    Raises ``StepFailed`` at the first that fails, and ``ActRequired`` where a person has to do something.
    """
    for number, step in enumerate(steps, start=1):
        with _named(step, context):
            title = f"[dim]{number:>2}/{len(steps)}[/dim] {escape(step.title)}"
            if step.is_done():
                context.console.print(f"{title}: [green]there[/green]")
            elif context.options.dry_run:
                context.console.print(f"{title}: [yellow]would be made[/yellow]")
            else:
                with _timed(context.console, title, "[green]made[/green]"):
                    _do(step, context)


def undo(steps: Sequence[Removable], context: Context) -> None:
    """Take away what the steps made, the last first; raises ``StepFailed`` at the first that fails."""
    for number, step in reversed([*enumerate(steps, start=1)]):
        with _named(step, context):
            title = f"[dim]{number:>2}/{len(steps)}[/dim] {escape(step.title)}"
            if context.options.dry_run:
                context.console.print(f"{title}: [yellow]would be taken away[/yellow]")
            else:
                with _timed(context.console, title, "taken away"):
                    step.undo()


def _do(step: Step, context: Context) -> None:
    step.do()
    end = time.monotonic() + context.options.settle_seconds
    while not step.is_done():
        if time.monotonic() >= end:
            raise StepFailed("everything was done, and it is still not as it has to be")
        time.sleep(min(1, context.options.poll_seconds))


@contextmanager
def _timed(console: Console, title: str, result: str) -> Iterator[None]:
    """Say when something begins, and at its end how long it took."""
    start = time.monotonic()
    console.print(f"{title} …")
    yield
    console.print(f"{title}: {result} [dim]in {time.monotonic() - start:.0f} s[/dim]")


@contextmanager
def _named(step: Removable, context: Context) -> Iterator[None]:
    """Whatever goes wrong within is said with the step's name, and how to go on."""
    again = f"what is done stays done: to go on, run {context.command} again"
    try:
        yield
    except ActRequired:
        raise
    except (Trouble, BotoCoreError, ClientError) as error:
        raise StepFailed(f"{step.title}: {error}\n{again}") from error
    except KeyboardInterrupt:
        context.console.print(f"[yellow]stopped[/yellow] at {escape(step.title)}; {escape(again)}")
        raise
