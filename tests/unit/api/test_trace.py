"""The trace that goes on from a request to its message."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from darkroom_api.trace import XRAY_VARIABLE, traceparent
from tests.unit.api.conftest import Cloud, environment
from tests.unit.api.events import V1, V1ALPHA1, V1ALPHA2, event, invoke, v1_body, v1alpha1_body, v1alpha2_body

CLIENTS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
LAMBDAS = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


def test_the_clients_trace_goes_on() -> None:
    assert traceparent({"traceparent": CLIENTS}, {XRAY_VARIABLE: XRAY}) == CLIENTS


def test_without_one_it_is_lambdas_own() -> None:
    assert traceparent({}, {XRAY_VARIABLE: XRAY}) == LAMBDAS


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (XRAY.replace("Sampled=1", "Sampled=0"), LAMBDAS[:-1] + "0"),
        (XRAY.replace("Sampled=1", "Sampled=0;Lineage=12326a9d:0"), LAMBDAS[:-1] + "0"),
        (XRAY.replace(";Sampled=1", ""), LAMBDAS[:-1] + "0"),
        (XRAY.replace(";", "; "), LAMBDAS),
    ],
)
def test_whether_it_is_recorded_is_xrays_to_say(header: str, expected: str) -> None:
    assert traceparent({}, {XRAY_VARIABLE: header}) == expected


@pytest.mark.parametrize(
    "given_by_client",
    [
        "",
        "nonsense",
        CLIENTS.upper(),
        CLIENTS + "-more",
        "ff" + CLIENTS[2:],
        CLIENTS.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        CLIENTS.replace("b7ad6b7169203331", "0" * 16),
    ],
)
def test_what_is_no_traceparent_counts_as_none(given_by_client: str) -> None:
    assert traceparent({"traceparent": given_by_client}, {}) is None
    assert traceparent({"traceparent": given_by_client}, {XRAY_VARIABLE: XRAY}) == LAMBDAS


@pytest.mark.parametrize(
    "header",
    [
        "Root=1-5759e988-bd862e3fe1be46a994272793",
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0000000000000000;Sampled=1",
        "Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8;Sampled=1",
        "Root=;Parent=;",
        "Parent=53995c3f42cd8ad8",
    ],
)
def test_half_a_trace_of_xrays_is_none(header: str) -> None:
    assert traceparent({}, {XRAY_VARIABLE: header}) is None


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.sampled_from("01"))
def test_it_is_what_opentelemetry_reads_from_xray(trace_id: int, span_id: int, sampled: str) -> None:
    root = f"{trace_id:032x}"
    header = f"Root=1-{root[:8]}-{root[8:]};Parent={span_id:016x};Sampled={sampled}"
    expected: dict[str, str] = {}
    context = AwsXRayPropagator().extract({"X-Amzn-Trace-Id": header})
    TraceContextTextMapPropagator().inject(expected, context)
    assert traceparent({}, {XRAY_VARIABLE: header}) == expected.get("traceparent")


@given(st.text(), st.text())
def test_whatever_comes_opentelemetry_understands_what_goes_on(header: str, xray: str) -> None:
    found = traceparent({"traceparent": header}, {XRAY_VARIABLE: xray})
    if found is not None:
        context = TraceContextTextMapPropagator().extract({"traceparent": found})
        assert get_current_span(context).get_span_context().is_valid


@pytest.mark.parametrize(
    ("resource", "body"), [(V1ALPHA1, v1alpha1_body()), (V1ALPHA2, v1alpha2_body()), (V1, v1_body())]
)
def test_a_message_carries_the_trace_beside_its_route(cloud: Cloud, resource: str, body: object) -> None:
    answer = invoke(event("POST", resource, json.dumps(body), headers={"Traceparent": CLIENTS}))
    assert answer.status in (200, 202)
    assert cloud.attributes() == {"runtime": "sdxl", "traceparent": CLIENTS}


def test_a_message_carries_lambdas_trace(cloud: Cloud) -> None:
    with environment(**{XRAY_VARIABLE: XRAY}):
        invoke(event("POST", V1, json.dumps(v1_body())))
    assert cloud.attributes() == {"runtime": "sdxl", "traceparent": LAMBDAS}


def test_a_message_without_a_trace_has_its_route_alone(cloud: Cloud) -> None:
    invoke(event("POST", V1, json.dumps(v1_body())))
    assert cloud.attributes() == {"runtime": "sdxl"}
