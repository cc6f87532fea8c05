"""What the tests compare with is fetched of the versions that clusters get."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests import reference
from tests.compositions.crds import REFERENCE

ROOT = Path(__file__).parents[3]


class Upstream(BaseHTTPRequestHandler):
    """It has everything but what is gone, and says what it was asked for."""

    def do_GET(self) -> None:
        self.send_response(404 if "gone" in self.path else 200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Keep quiet."""


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_schemas_are_fetched_of_the_version_that_is_installed(upstream: str, tmp_path: Path) -> None:
    reference.fetch(tmp_path, f"{upstream}/{{version}}/{{name}}", f"{upstream}/schema")
    queue = (tmp_path / "crds/aws/sqs.aws.m.upbound.io_queues.yaml").read_text()
    family = (ROOT / "crossplane/packages/templates/provider-family-aws.yaml").read_text()
    assert re.fullmatch(r"/(v[\d.]+)/sqs\.aws\.m\.upbound\.io_queues\.yaml", queue)
    assert queue.split("/")[1] in family
    assert (tmp_path / "eksctl.schema.json").read_text() == "/schema"


def test_a_schema_that_is_not_there_is_an_error(upstream: str, tmp_path: Path) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        reference.fetch(tmp_path, f"{upstream}/gone/{{version}}/{{name}}", f"{upstream}/schema")


def test_helm_is_asked_for_the_values_of_each_add_on_by_its_version(tmp_path: Path) -> None:
    helm = tmp_path / "helm"
    helm.write_text('#!/bin/sh\necho "$@"\n')
    helm.chmod(0o755)
    reference.show_values(tmp_path, helm)
    asked = (tmp_path / "charts/keda.values.yaml").read_text()
    assert re.fullmatch(r"show values keda --repo https://kedacore\.github\.io/charts --version [\d.]+\n", asked)


@pytest.mark.skipif(not REFERENCE, reason="DARKROOM_REFERENCE is not set: nothing to compare with")
def test_what_is_fetched_is_what_the_tests_read() -> None:
    there = {path.name for path in Path(str(REFERENCE), "crds", "aws").iterdir()}
    assert set(reference.crd_files()) <= there
    charts = {path.name for path in Path(str(REFERENCE), "charts").glob("*.values.yaml")} - {"karpenter.values.yaml"}
    assert charts <= {f"{chart}.values.yaml" for _, chart, _ in reference.charts()}
