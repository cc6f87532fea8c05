"""Admission webhooks of processes: the API server asks them at their addresses, since no service leads to them."""

import base64
from collections.abc import Iterable
from pathlib import Path

import yaml

from tests.e2e.controlplane.api import Api
from tests.e2e.controlplane.certificates import Certificate


def call(api: Api, configurations: Iterable[Path], port: int, server: Certificate) -> None:
    """Apply the webhooks of a component's own files, with a process on this port of ``localhost`` as their service."""
    trusted = base64.b64encode(server.authority.read_bytes()).decode()
    for path in configurations:
        configuration = yaml.safe_load(path.read_text())
        for webhook in configuration["webhooks"]:
            place = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {"url": f"https://localhost:{port}{place}", "caBundle": trusted}
        api.apply(configuration)
