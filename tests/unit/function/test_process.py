"""``python -m darkroom_function``, as it is started in its image."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme

from tests.compositions import specs
from tests.unit.function.crossplane_core import Core

#: The server's name in its certificate; the tests reach it by a socket that has no name.
_NAME = "darkroom-function.crossplane-system"


@contextmanager
def function(socket: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "darkroom_function", "--address", f"unix:{socket}", *options]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def ready(channel: grpc.Channel) -> None:
    grpc.channel_ready_future(channel).result(timeout=60)


def test_it_serves_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    socket = tmp_path / "function"
    with function(socket, "--insecure") as process, grpc.insecure_channel(f"unix:{socket}") as channel:
        ready(channel)
        assert Core(channel).run("Storage", specs.storage()).resources
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_nobody_but_crossplane_may_ask(tmp_path: Path) -> None:
    ours, others = trustme.CA(), trustme.CA()
    certificates = tmp_path / "tls"
    certificates.mkdir()
    ours.cert_pem.write_to_path(certificates / "ca.crt")
    of_server = ours.issue_cert(_NAME)
    of_server.cert_chain_pems[0].write_to_path(certificates / "tls.crt")
    of_server.private_key_pem.write_to_path(certificates / "tls.key")

    def channel(issuer: trustme.CA) -> grpc.Channel:
        of_client = issuer.issue_cert("crossplane")
        credentials = grpc.ssl_channel_credentials(
            root_certificates=ours.cert_pem.bytes(),
            private_key=of_client.private_key_pem.bytes(),
            certificate_chain=of_client.cert_chain_pems[0].bytes(),
        )
        options = [("grpc.ssl_target_name_override", _NAME)]
        return grpc.secure_channel(f"unix:{tmp_path / 'function'}", credentials, options)

    with function(tmp_path / "function", "--tls-server-certs-dir", str(certificates)):
        with channel(ours) as trusted:
            ready(trusted)
            assert Core(trusted).run("Storage", specs.storage()).resources
        with channel(others) as stranger, pytest.raises(grpc.RpcError) as refused:
            Core(stranger).run("Storage", specs.storage())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_it_does_not_start_without_certificates(tmp_path: Path) -> None:
    with function(tmp_path / "function") as process:
        assert process.wait(60) != 0
