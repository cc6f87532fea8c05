"""The ``darkroom`` command: what can be typed after it."""

from collections.abc import Callable

import typer

from darkroom.commands import (
    bootstrap,
    clusters,
    destroy,
    doctor,
    image_cache,
    jobs,
    local,
    matrix,
    models,
    pin,
    runtimes,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(jobs.prompt, jobs.cancel, local.local, local.demo, clusters.validate, pin.pin),
    *(bootstrap.bootstrap, bootstrap.boundaries, destroy.destroy, doctor.doctor),
)
for command in _COMMANDS:
    app.command()(command)
app.command("smoke")(doctor.run_smoke)
app.add_typer(runtimes.app, name="runtime")
app.add_typer(matrix.app, name="matrix")
app.add_typer(models.app, name="models")
app.add_typer(image_cache.app, name="image-cache")
