"""``darkroom doctor`` and ``smoke``: whether pictures come, and if not, why not."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from darkroom import account, endpoint, kubectl, smoke
from darkroom.cluster_files import ClusterFiles, load_cluster
from darkroom.commands.jobs import ApiKey, Url, api_client
from darkroom.doctor import job as jobs
from darkroom.doctor import report
from darkroom.doctor.chain import examine
from darkroom.doctor.context import Aws, Context
from darkroom.kubectl import Kubectl
from darkroom.programs import ProgramFailed, ProgramMissing
from darkroom.terminal import LOCAL_CLUSTER, ClusterFolder, clear_errors, console
from darkroom.trouble import Trouble, UsageError
from darkroom_contract.cluster import Cluster
from darkroom_contract.names import Bucket
from darkroom_contract.store import JobStore

Runtimes = Annotated[list[str] | None, typer.Option("--runtime", help="One runtime. May be repeated; without: all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def doctor(
    cluster: ClusterFolder = LOCAL_CLUSTER,
    runtime: Runtimes = None,
    job: Annotated[str | None, typer.Option(help="Follow the job with this id.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Why is no picture coming? Look at the whole way of a prompt, and say where it stops and what to do.

    Nothing is changed. The exit status is 1 if something is wrong. AWS is found as the AWS SDK finds it, Kubernetes by
    the commands aws and kubectl. If these do not say otherwise, and the local stack runs, it is that.
    """
    with clear_errors(), ExitStack() as cleanup:
        files = load_cluster(cluster)
        aws, stack = _aws(files.cluster)
        store = JobStore(aws.client("s3"), files.cluster.names.bucket(Bucket.JOBS))
        found = jobs.find(store, [each.name for each in files.cluster.tenants], job) if job else None
        chosen = _chosen(files, [found.runtime] if found else runtime)
        kubernetes, why_not = (None, "") if stack else cleanup.enter_context(_kubernetes(files.cluster))
        contexts = [
            Context(
                files,
                cluster,
                name,
                aws,
                kubernetes=kubernetes,
                no_kubernetes=why_not,
                url=url or (stack.url if stack else None),
                api_key=api_key or (stack.api_key if stack else None),
                is_local=stack is not None,
            )
            for name in chosen
        ]
        followed = list(jobs.follow(contexts[0], found)) if found else []
        if as_json:
            told = [*followed, *examine(contexts)]
            console.print_json(data=report.as_json(told))
        else:
            told = report.tell(console, (each for part in (followed, examine(contexts)) for each in part))
            report.conclude(console, told)
        if any(each.is_cause for each in told):
            raise typer.Exit(1)


def _chosen(files: ClusterFiles, wanted: list[str] | None) -> list[str]:
    """The runtimes that are meant; raises ``UsageError``."""
    if unknown := [name for name in wanted or () if name not in files.runtimes]:
        raise UsageError(
            f"the cluster has no runtime {', '.join(unknown)}; there are {', '.join(files.runtimes) or 'none'}"
        )
    if not files.runtimes:
        raise UsageError("the cluster has no runtime: darkroom runtime new")
    return wanted or list(files.runtimes)


def _aws(cluster: Cluster) -> tuple[Aws, endpoint.LocalStack | None]:
    """The cluster's AWS, and the local stack if it is that one's; raises ``Trouble``."""
    session, local_url = endpoint.aws(cluster.names)
    if local_url:
        return Aws(session, local_url), endpoint.find()
    if cluster.name == LOCAL_CLUSTER.name and session.get_credentials() is None:
        raise UsageError(
            "no local stack runs in this folder: start one with make local, or say --cluster clusters/<name>"
        )
    return Aws(account.session(cluster)), None


@contextmanager
def _kubernetes(cluster: Cluster) -> Iterator[tuple[Kubectl | None, str]]:
    """The EKS cluster's kubectl; or None, and why it cannot be asked."""
    with ExitStack() as cleanup:
        try:
            k8s = cleanup.enter_context(kubectl.of(cluster))
            k8s.run("version", "--request-timeout=10s")
        except ProgramMissing as error:
            yield None, str(error)
            return
        except ProgramFailed as error:
            said = str(error).splitlines()[-1].strip()
            is_missing = "ResourceNotFoundException" in said
            yield None, f"EKS has no cluster {cluster.eks_name}: darkroom bootstrap" if is_missing else said
            return
        yield k8s, ""


def run_smoke(
    cluster: ClusterFolder = LOCAL_CLUSTER,
    runtime: Runtimes = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that each picture may take; by default a cold start's.", min=1)
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Send one small prompt to each runtime, all at once, and say what happened when.

    Each costs a picture, and a GPU's start where none is up. The exit status is 1 if a picture does not come. Without a
    URL: to the local stack that runs. What AWS and Kubernetes know of the jobs is told where they may be asked.
    """
    with clear_errors(), ExitStack() as cleanup:
        files = load_cluster(cluster)
        chosen = _chosen(files, runtime)
        _refuse_another_stack(files.cluster, url)
        client = cleanup.enter_context(api_client(url, api_key))
        is_local, witnesses = cleanup.enter_context(_witnesses(files))
        seconds = {name: timeout or smoke.budget(files.runtimes[name], is_local=is_local) for name in chosen}
        outcomes: list[smoke.Outcome] = []
        waiting = f"{len(chosen)} prompts to {client.url}; the last may take {max(seconds.values()):.0f} s"
        with nullcontext() if as_json else console.status(waiting):
            for outcome in smoke.run(client, files, chosen, witnesses, seconds=seconds):
                outcomes.append(outcome)
                if not as_json:
                    _show(outcome, cluster)
        if as_json:
            console.print_json(data=[asdict(outcome) for outcome in outcomes])
        else:
            _sum_up(outcomes)
        if any(outcome.failure for outcome in outcomes) or all(outcome.skipped for outcome in outcomes):
            raise typer.Exit(1)


def _refuse_another_stack(cluster: Cluster, url: str | None) -> None:
    """Raises ``UsageError`` where prompts for one cluster would go to the local stack of another."""
    stack = endpoint.find()
    if url is None and stack and stack.cluster != cluster.name:
        raise UsageError(
            f"the local stack that runs is the cluster {stack.cluster}: for {cluster.name} set DARKROOM_URL and "
            "DARKROOM_API_KEY, which darkroom bootstrap says at its end"
        )


@contextmanager
def _witnesses(files: ClusterFiles) -> Iterator[tuple[bool, smoke.Witnesses]]:
    """Who can be asked beside the API, and whether it is the local stack's cluster."""
    names = files.cluster.names
    try:
        aws, stack = _aws(files.cluster)
    except Trouble:
        yield False, smoke.Witnesses()
        return
    store = JobStore(aws.client("s3"), names.bucket(Bucket.JOBS))
    tenants = tuple(each.name for each in files.cluster.tenants)
    if stack:
        yield True, smoke.Witnesses(store, tenants)
        return
    with _kubernetes(files.cluster) as (kubernetes, _):
        yield False, smoke.Witnesses(store, tenants, kubernetes)


def _show(outcome: smoke.Outcome, cluster: Path) -> None:
    if outcome.skipped:
        console.print(f"[yellow]-[/yellow] [bold]{outcome.runtime}[/bold] skipped: {escape(outcome.skipped)}")
        return
    mark = "[red]✗[/red]" if outcome.failure else "[green]✓[/green]"
    console.print(f"{mark} [bold]{outcome.runtime}[/bold]  job {outcome.job_id}")
    for step in outcome.steps:
        console.print(f"  {step.seconds:7.1f} s  {step.name:<11} {escape(step.words)}")
    for picture in outcome.pictures:
        console.print(f"             [green]picture[/green]     {escape(picture)}")
    if outcome.failure:
        console.print(f"  [red]{escape(outcome.failure)}[/red]")
        console.print(f"  why:  darkroom doctor --cluster {cluster} --job {outcome.job_id}")


def _sum_up(outcomes: list[smoke.Outcome]) -> None:
    came = [outcome.seconds for outcome in outcomes if outcome.seconds is not None and not outcome.failure]
    failed = sum(outcome.failure is not None for outcome in outcomes)
    skipped = sum(outcome.skipped is not None for outcome in outcomes)
    slowest = f", the last after {max(came):.1f} s" if came else ""
    aside = f"; {failed} did not" * bool(failed) + f"; {skipped} skipped" * bool(skipped)
    console.print(f"{len(came)} of {len(outcomes)} runtimes drew a picture{slowest}{aside}.")
