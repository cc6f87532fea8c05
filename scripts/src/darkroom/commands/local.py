"""``darkroom local`` and ``demo``: the whole flow on this computer."""

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

import typer
from rich.markup import escape
from rich.table import Table

from darkroom import endpoint
from darkroom.client import Client
from darkroom.cluster_files import ClusterFiles, load_cluster
from darkroom.commands.jobs import show_result
from darkroom.local.stack import Options, Stack
from darkroom.prompting import build_request, show_progress
from darkroom.terminal import LOCAL_CLUSTER, PICTURES, ClusterFolder, Out, clear_errors, console
from darkroom.trouble import UsageError
from darkroom_contract.records import Notification
from darkroom_contract.types import Engine

_LOGS = Path(".demo/logs")

RuntimeUrl = Annotated[
    str | None, typer.Option(envvar="RUNTIME_URL", help="A real web UI or ComfyUI to stand behind a runtime.")
]


def local(cluster: ClusterFolder = LOCAL_CLUSTER, runtime_url: RuntimeUrl = None) -> None:
    """Run the whole flow on this computer until Ctrl-C. AWS is an emulator."""
    with (
        clear_errors(),
        endpoint.reserved() as publish,
        _stack(load_cluster(cluster), "local", runtime_url) as stack,
    ):
        publish(endpoint.LocalStack(stack.names.cluster, stack.url, stack.api_key, stack.aws_url))
        _describe(stack)
        with suppress(KeyboardInterrupt):
            while True:
                stack.check()
                time.sleep(1)


def demo(
    text: Annotated[str, typer.Argument(help="What to draw.")] = "a fox and a red apple",
    cluster: ClusterFolder = LOCAL_CLUSTER,
    runtime_url: RuntimeUrl = None,
    out: Out = PICTURES,
) -> None:
    """One prompt through the whole flow on this computer, and its picture on disk."""
    with clear_errors():
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
            show_result(client, job, out)


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
        console.print(f'try       .venv/bin/darkroom prompt {web_ui} "a fox and a red apple"')
    console.print("Ctrl-C stops it.")
