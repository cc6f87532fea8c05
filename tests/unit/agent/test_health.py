"""What probes and Prometheus are answered."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from darkroom_agent import health
from darkroom_agent.health import serving_health
from darkroom_agent.metrics import Metrics


@dataclass
class Served:
    """A health server, and what it is to find."""

    healthy: dict[str, bool]
    metrics: Metrics = field(default_factory=lambda: Metrics("sdxl"))
    url: str = ""

    def get(self, path: str, accept: str = "*/*") -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"Accept": accept})


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served({"/healthz": True, "/readyz": False, "/livez/engine": True})
    checks = {path: lambda path=path: served.healthy[path] for path in served.healthy}
    with serving_health(0, checks, {"/metrics": served.metrics.exposition}) as port:
        served.url = f"http://127.0.0.1:{port}"
        yield served


def test_each_check_is_answered_as_it_stands(served: Served) -> None:
    assert served.get("/healthz").status_code == 200
    assert served.get("/readyz").status_code == 503
    served.healthy["/readyz"] = True
    assert served.get("/readyz?verbose").status_code == 200


def test_there_are_no_other_paths(served: Served) -> None:
    assert served.get("/").status_code == 404
    assert served.get("/livez").status_code == 404


def test_the_metrics_are_a_page_as_prometheus_asks_for_it(served: Served) -> None:
    served.metrics.ended("completed")
    answer = served.get("/metrics", "application/openmetrics-text;version=1.0.0")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert 'darkroom_jobs_total{outcome="completed",runtime="sdxl"} 1.0' in answer.text
    assert served.get("/metrics").headers["Content-Type"].startswith("text/plain")


def test_a_page_that_fails_leaves_the_checks_as_they_are(served: Served) -> None:
    served.metrics.messages_in_flight.set_function(lambda: 1 / 0)
    assert served.get("/metrics").status_code == 500
    assert served.get("/healthz").status_code == 200


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
def test_probes_come_by_ipv4_and_by_ipv6() -> None:
    with serving_health(0, {"/healthz": lambda: True}) as port:
        answers = [httpx.get(f"http://{host}:{port}/healthz") for host in ("127.0.0.1", "[::1]")]
    assert [answer.status_code for answer in answers] == [200, 200]


def test_probes_come_by_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health._Server, "address_family", socket.AF_INET)
    with serving_health(0, {"/healthz": lambda: True}) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_nobody_listens_after_the_context() -> None:
    with serving_health(0, {}) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")
