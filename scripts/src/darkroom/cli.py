"""The ``darkroom`` command."""

import logging
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import httpx
import typer
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from darkroom import endpoint, redrive
from darkroom.client import Client, RequestRefused
from darkroom.cluster_files import ClusterFileError, ClusterFiles, load_cluster
from darkroom.dead_letters import DeadLetterQueue
from darkroom.local.processes import ProcessFailed
from darkroom.local.reconcile import NotReady
from darkroom.local.stack import EngineNotFound, Options, Stack
from darkroom.new_runtime import only_cluster, write_runtime
from darkroom.prompting import UsageError, build_request, output_format, save_pictures, show_progress, submit
from darkroom.validate import ReportFormat, clusters_folder, find_all, report
from darkroom_contract.gpus import Gpu
from darkroom_contract.records import Notification
from darkroom_contract.types import Engine, PictureFormat
from darkroom_contract.v1 import JobStatus, JobView

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
runtime_app = typer.Typer(no_args_is_help=True, help="Look after a model runtime.")
app.add_typer(runtime_app, name="runtime")
console = Console(highlight=False, soft_wrap=True)

_CLUSTERS = Path("clusters")
_LOCAL_CLUSTER = _CLUSTERS / "local"
_LOGS = Path(".demo/logs")
_PICTURES = Path("pictures")
#: As shells call the end by Ctrl-C.
_INTERRUPTED = 128 + signal.SIGINT

ClusterFolder = Annotated[Path, typer.Option(help="The cluster's folder.")]
RuntimeUrl = Annotated[
    str | None, typer.Option(envvar="RUNTIME_URL", help="A real web UI or ComfyUI to stand behind a runtime.")
]
Out = Annotated[Path, typer.Option(help="Where the pictures are saved.")]
Url = Annotated[str | None, typer.Option(envvar="DARKROOM_URL", help="The API, with its stage.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="DARKROOM_API_KEY", help="Better by the variable: arguments are visible.")
]


@app.command()
def prompt(
    runtime: Annotated[str, typer.Argument(help="The runtime's name: its folder under runtimes/.")],
    text: Annotated[str, typer.Argument(help="What to draw.")],
    image: Annotated[Path | None, typer.Option(help="A picture to start from.", exists=True, dir_okay=False)] = None,
    workflow: Annotated[
        str | None,
        typer.Option(help="One of the runtime's workflows, or a file in ComfyUI's API format with {{prompt}} in it."),
    ] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="name=value: an input of the named workflow. May be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same picture again.", min=0)] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.", min=1, max=150)] = None,
    picture_format: Annotated[
        PictureFormat | None, typer.Option("--format", help="The pictures' format, instead of the engine's.")
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="Smaller or better: WebP is lossless at 100.", min=1, max=100)
    ] = None,
    out: Out = _PICTURES,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Send a prompt, watch the job and save its pictures. Without a URL: to the local stack that runs."""
    with _clear_errors(), _client(url, api_key) as client:
        output = output_format(picture_format, quality)
        request = build_request(
            uuid.uuid4().hex,
            runtime,
            text,
            image=image,
            workflow=workflow,
            inputs=inputs or (),
            settings={"seed": seed, "steps": steps},
        )
        out.mkdir(parents=True, exist_ok=True)
        try:
            with console.status(f"sending to {client.url}"):
                job = submit(client, request.model_copy(update={"output": output}))
            console.print(f"job {job.id}")
            job = show_progress(console, client, job)
        except KeyboardInterrupt:
            console.print(f"the job goes on, if it was accepted; this takes it back: darkroom cancel {request.id}")
            raise typer.Exit(_INTERRUPTED) from None
        _show_result(client, job, out)


@app.command()
def cancel(
    job_id: Annotated[str, typer.Argument(help="The job's id.")], url: Url = None, api_key: ApiKey = None
) -> None:
    """Cancel a job. What has ended stays as it is. Without a URL: at the local stack that runs."""
    with _clear_errors(), _client(url, api_key) as client:
        job = client.cancel(job_id)
        console.print(f"job {job.id} {'had ended: ' if job.finished_at else ''}{job.status}")


@app.command()
def local(cluster: ClusterFolder = _LOCAL_CLUSTER, runtime_url: RuntimeUrl = None) -> None:
    """Run the whole flow on this computer until Ctrl-C. AWS is an emulator."""
    with (
        _clear_errors(),
        endpoint.reserved() as publish,
        _stack(load_cluster(cluster), "local", runtime_url) as stack,
    ):
        publish(endpoint.LocalStack(stack.names.cluster, stack.url, stack.api_key, stack.aws_url))
        _describe(stack)
        with suppress(KeyboardInterrupt):
            while True:
                stack.check()
                time.sleep(1)


@app.command()
def demo(
    text: Annotated[str, typer.Argument(help="What to draw.")] = "a lighthouse on a cliff at dusk",
    cluster: ClusterFolder = _LOCAL_CLUSTER,
    runtime_url: RuntimeUrl = None,
    out: Out = _PICTURES,
) -> None:
    """One prompt through the whole flow on this computer, and its picture on disk."""
    with _clear_errors():
        files = load_cluster(cluster)
        runtime = _web_ui(files)
        if runtime is None:
            raise UsageError(f"{cluster}/runtimes has no runtime with engine: sdwebui, which the demo's prompt is for")
        out.mkdir(parents=True, exist_ok=True)
        with _stack(files, "demo", runtime_url) as stack, Client(stack.url, stack.api_key) as client:
            console.print(f"[bold]POST {stack.url}/v1/jobs[/bold]  runtime={runtime}  prompt={escape(repr(text))}")
            request = build_request(uuid.uuid4().hex, runtime, text, image=None, workflow=None, inputs=(), settings={})
            job = show_progress(console, client, client.submit(request), stack.check)
            notification = _await_notification(stack, job.id)
            console.print("notification")
            console.print_json(notification.to_json())
            _show_result(client, job, out)


@app.command()
def validate(
    clusters: Annotated[
        list[Path] | None, typer.Argument(help="The clusters' folders. All under clusters/ if none is given.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="What to compare with, to find removed runtimes. By default what Argo CD follows on origin."),
    ] = None,
    style: Annotated[
        ReportFormat, typer.Option("--format", help="For people, or as annotations of GitHub Actions.")
    ] = ReportFormat.HUMAN,
) -> None:
    """Check clusters' folders: everything that Argo CD, Kubernetes or AWS would refuse, with file, line and remedy.

    The exit status is 1 if anything is wrong. Notes are only worth knowing.
    """
    with _clear_errors():
        every = None if clusters else clusters_folder()
        folders = clusters or sorted(path for path in (every or Path()).iterdir() if path.is_dir())
        findings = find_all(folders, base, style, every)
        report(console, folders, findings, style)
        if any(finding.is_error for finding in findings):
            raise typer.Exit(1)


@runtime_app.command("new")
def new_runtime(
    name: Annotated[str, typer.Argument(help="The runtime's name: at most 32 lower-case letters, digits, hyphens.")],
    engine: Annotated[Engine, typer.Option(help="The software that runs the model.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="The model's file, in the folder checkpoints/ of the models volume.")
    ] = None,
    gpu: Annotated[Gpu | None, typer.Option(help="The class of GPU. By default g5.")] = None,
    cluster: Annotated[
        Path | None, typer.Option(help="The cluster's folder. By default the only one under clusters/ with gitops.")
    ] = None,
) -> None:
    """Write the file of a new model runtime, with its options and their defaults as comments.

    The exit status is 1 if the file does not go together with the cluster's others. It is there then all the same.
    """
    with _clear_errors():
        cluster = cluster or only_cluster(_CLUSTERS)
        path, findings = write_runtime(cluster, name, engine, checkpoint, gpu)
        console.print(f"[green]written[/green]  {escape(str(path))}")
        report(console, [path.parent], findings, ReportFormat.HUMAN)
        console.print("[bold]next[/bold]     look through it, then try it, check it, commit it and push it:")
        console.print(f"         .venv/bin/darkroom local --cluster {escape(str(cluster))}")
        console.print(f"         .venv/bin/darkroom validate {escape(str(cluster))}")
        console.print(f"         git add {escape(str(path))}")
        console.print(f'         git commit -m "Serve {name}" && git push')
        if any(finding.is_error for finding in findings):
            raise typer.Exit(1)


@runtime_app.command("redrive")
def redrive_runtime(
    name: Annotated[str, typer.Argument(help="The runtime's name: its folder under runtimes/.")],
    cluster: ClusterFolder = _LOCAL_CLUSTER,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Send back the one with this id. May be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Send back every one that is a job.")] = False,
    include_poison: Annotated[
        bool, typer.Option("--include-poison", help="With --all: also what the agent would refuse again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List a runtime's dead letters with the reasons; with --id or --all, send them back to be run again.

    A failed job counts as new then: its result is kept beside it under another name, and its starts are counted from
    zero. A job that has been completed or cancelled is sent back too, but not run again: its stored result is told once
    more. What is no job at all (poison) would only come back, unless the agent was mended: it is sent back by its id,
    or with --all --include-poison.

    AWS is found as the AWS SDK finds it: AWS_PROFILE, AWS_ENDPOINT_URL, … If these do not say where, and the cluster is
    the one of the local stack that runs, it is the local stack's.
    """
    with _clear_errors():
        choice = redrive.Choice(tuple(ids or ()), everything, include_poison)
        choice.check()
        files = load_cluster(cluster)
        if name not in files.runtimes:
            raise UsageError(f"{cluster}/runtimes has no runtime {name}; there are {', '.join(files.runtimes)}")
        names = files.cluster.names
        session, local_url = endpoint.aws(names)
        if local_url and not as_json:
            console.print(f"[dim]of the local stack, {local_url}[/dim]")
        queue = DeadLetterQueue(session, names, name, local_url)
        if choice == redrive.Choice():
            redrive.list_all(console, queue, as_json=as_json)
        elif not redrive.send_back(console, queue, choice, as_json=as_json):
            raise typer.Exit(1)


def _show_result(client: Client, job: JobView, out: Path) -> None:
    """Say how a job ended, and save its pictures; exit status 1 when it has none."""
    if job.status is not JobStatus.COMPLETED:
        console.print(f"[red]{job.status}[/red]" + (f"  {escape(job.error.message)}" if job.error else ""))
        raise typer.Exit(1)
    console.print(f"[green]{job.status}[/green]")
    for path in save_pictures(client, job, out):
        console.print(f"[green]picture[/green]  {escape(str(path.resolve()))}")


def _await_notification(stack: Stack, job_id: str) -> Notification:
    """The notification of a job, from the queue that keeps them."""
    sqs, queue = stack.aws_client("sqs"), stack.queue_url(stack.names.result_topic)
    while True:
        stack.check()
        for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            notification = Notification.model_validate_json(message["Body"])
            if notification.job_id == job_id:
                return notification


def _web_ui(files: ClusterFiles) -> str | None:
    """The first runtime that takes a prompt as it is; ComfyUI's take workflows."""
    return next((name for name, runtime in files.runtimes.items() if runtime.engine is Engine.SDWEBUI), None)


@contextmanager
def _stack(files: ClusterFiles, name: str, runtime_url: str | None) -> Iterator[Stack]:
    """A local stack with fresh logs in a folder of its name, started with a word on what happens."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    logs = _LOGS / name
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    logging.basicConfig(filename=logs / "stack.log", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("darkroom").setLevel(logging.INFO)
    starting = console.status("starting the emulator, the runtimes and the API")
    with starting, Stack(files, Options(logs=logs, runtime_url=runtime_url)) as stack:
        starting.stop()
        try:
            yield stack
        finally:
            console.print("stopping")


def _client(url: str | None, api_key: str | None) -> Client:
    """The API as given, or else the local stack's."""
    if url is not None and api_key is not None:
        return Client(url, api_key, on_retry=_say_retry)
    if url is not None or api_key is not None:
        given, missing = ("DARKROOM_URL", "DARKROOM_API_KEY") if url else ("DARKROOM_API_KEY", "DARKROOM_URL")
        console.print(f"[red]{missing} is missing[/red]: it goes with {given}; without both it is the local stack")
        raise typer.Exit(2)
    stack = endpoint.find()
    if stack is None:
        console.print(
            "[red]no local stack runs in this folder[/red]: start one with [bold]make local[/bold], "
            "or set DARKROOM_URL and DARKROOM_API_KEY"
        )
        raise typer.Exit(2)

    def on_retry(tries: int) -> None:
        if endpoint.find() != stack:
            raise UsageError("the local stack has stopped, and what it had is gone")
        _say_retry(tries)

    return Client(stack.url, stack.api_key, on_retry=on_retry)


def _say_retry(tries: int) -> None:
    if tries == 1:
        console.print("[yellow]the API cannot answer now[/yellow]: trying again for a minute")


def _describe(stack: Stack) -> None:
    table = Table("runtime", "engine", "behind it", "its agent", title="Darkroom runs locally")
    for name, runtime in stack.files.runtimes.items():
        table.add_row(name, runtime.engine, stack.runtime_urls[name], stack.health_url(name))
    console.print(table)
    console.print(f"API       {stack.url}  (header x-api-key); for curl, or a darkroom of another folder:")
    console.print(f"          export DARKROOM_URL={stack.url} DARKROOM_API_KEY={stack.api_key}")
    console.print("agents    /metrics, /healthz, /readyz and /livez/engine at their addresses above")
    console.print(f"AWS       {stack.aws_url}")
    console.print(f"logs      {_LOGS}/local/")
    if web_ui := _web_ui(stack.files):
        console.print(f'try       .venv/bin/darkroom prompt {web_ui} "a lighthouse on a cliff at dusk"')
    console.print("Ctrl-C stops it.")


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What a user can mend is said in a sentence, without a traceback."""
    try:
        yield
    except RequestRefused as error:
        console.print(f"[red]refused ({error.status}, {error.error.code})[/red] {escape(str(error))}")
    except (ClusterFileError, EngineNotFound, NotReady, ProcessFailed, UsageError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        console.print(f"[red]{escape('; '.join(problems))}[/red]")
    except (BotoCoreError, ClientError) as error:
        console.print(f"[red]AWS:[/red] {escape(str(error))}")
    except httpx.HTTPError as error:
        console.print(f"[red]cannot reach the API[/red]: {escape(str(error))}")
    except OSError as error:
        console.print(f"[red]{escape(f'{error.filename}: {error.strerror}')}[/red]")
    else:
        return
    raise typer.Exit(1)
