"""The ``darkroom`` command: what can be typed after it."""

import typer

from darkroom.commands import clusters, jobs, local, runtimes

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
for command in (jobs.prompt, jobs.cancel, local.local, local.demo, clusters.validate):
    app.command()(command)
app.add_typer(runtimes.app, name="runtime")
