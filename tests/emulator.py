"""An emulated AWS in a thread, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.iam.models import iam_backends
from moto.server import ThreadedMotoServer


@contextmanager
def emulated_aws(*, with_its_policies: bool = False) -> Iterator[str]:
    """Run the emulator on loopback for as long as the context lasts; its URL.

    ``with_its_policies``: whether AWS's own policies are there, to be attached to roles; they take seconds to load.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", str(with_its_policies).lower())
        if with_its_policies:  # which an account that an earlier test of the process has used would not get
            for account in iam_backends.values():
                account.reset()
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.stop()
