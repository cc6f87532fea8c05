import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import grpc
import pytest
from crossplane.function import logging
from crossplane.function.proto.v1 import run_function_pb2_grpc as rpc

from darkroom_function.server import FunctionRunner
from tests.unit.function.crossplane_core import Core


@contextmanager
def function() -> Iterator[str]:
    """The address of the function's server, which has an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="function")
    thread.start()

    async def started() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        rpc.add_FunctionRunnerServiceServicer_to_server(FunctionRunner(), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(started(), loop).result(30)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(grace=None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def core() -> Iterator[Core]:
    logging.configure()
    with function() as address, grpc.insecure_channel(address) as channel:
        yield Core(channel)
