"""What tests of the local Lambda and of the local API Gateway share."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from darkroom.local.lambda_service import FunctionConfiguration, LambdaService

_ROOT = Path(__file__).parents[3]


@contextmanager
def running(logs: Path, *, timeout: float = 60, concurrency: int = 100, **variables: str) -> Iterator[LambdaService]:
    """The tests' function."""
    configuration = FunctionConfiguration(
        name="function",
        arn="arn:aws:lambda:us-east-1:123456789012:function:function",
        timeout=timeout,
        memory=128,
        concurrency=concurrency,
        variables={"PYTHONPATH": str(_ROOT), **variables},
    )
    function = LambdaService(configuration, "tests.unit.darkroom.handler.handler", logs)
    try:
        yield function
    finally:
        function.stop()


@contextmanager
def listener() -> Iterator[tuple[str, socket.socket]]:
    """The order to call a socket and wait, and that socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield f"call {server.getsockname()[1]}", server
