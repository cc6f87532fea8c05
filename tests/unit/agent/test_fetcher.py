"""The fetcher, against a real HTTPS host on the loopback."""

import ipaddress
import socket
import time
from collections.abc import Iterator

import pytest

from darkroom_agent import fetcher
from darkroom_agent.errors import HandedBackError, InputMissingError, InputRefusedError, InputUnavailableError
from darkroom_agent.fetcher import Address, Fetcher
from tests.unit.agent.pictures_host import PicturesHost
from tests.unit.agent.support import picture, seconds_for


def test_a_picture_is_fetched_from_the_address_that_its_name_resolves_to(host: PicturesHost) -> None:
    assert host.fetcher().fetch(host.url("/a.png")) == picture()


def test_a_redirect_is_followed(host: PicturesHost) -> None:
    assert host.fetcher().fetch(host.redirects("/moved", "/a.png")) == picture()


def test_no_more_than_three_redirects_are_followed(host: PicturesHost) -> None:
    host.redirects("/1", "/a.png")
    host.redirects("/2", "/1")
    host.redirects("/3", "/2")
    assert host.fetcher().fetch(host.url("/3")) == picture()
    with pytest.raises(InputRefusedError, match="more than 3 times"):
        host.fetcher().fetch(host.redirects("/4", "/3"))


def test_where_hosts_are_listed_no_other_is_asked_not_even_by_a_redirect(host: PicturesHost) -> None:
    fetcher = host.fetcher(hosts=["*.example.com", "Pictures.test"])
    assert fetcher.fetch(host.url("/a.png")) == picture()
    for url in (host.url("/a.png", name="other.test"), host.redirects("/other", host.url("/a.png", name="other.test"))):
        asked = len(host.requests)
        with pytest.raises(InputRefusedError, match="not one that this runtime takes inputs from"):
            fetcher.fetch(url)
        assert host.requests[asked:] in ([], ["/other"])


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://localhost/a.png",
        "https://169.254.169.254/latest/meta-data/",
        "http://pictures.test/a.png",
        "s3://outputs/a.png",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_is_checked_like_the_url_itself(host: PicturesHost, target: str) -> None:
    with pytest.raises(InputRefusedError):
        host.fetcher().fetch(host.redirects("/away", target))


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/a.png",
        "https://[::ffff:127.0.0.1]/a.png",
        "https://10.0.0.1/a.png",
        "http://pictures.test/a.png",
        "https://user:secret@pictures.test/a.png",
        "https://pictures.test:port/a.png",
    ],
)
def test_a_url_that_no_agent_would_fetch_is_refused_without_a_connection(host: PicturesHost, url: str) -> None:
    asked = len(host.requests)
    with pytest.raises(InputRefusedError):
        host.fetcher().fetch(url)
    assert len(host.requests) == asked


def test_a_name_that_resolves_to_the_loopback_is_refused(host: PicturesHost) -> None:
    asked = len(host.requests)
    with pytest.raises(InputRefusedError, match="private, loopback"):
        host.fetcher(loopback_is_allowed=False).fetch(host.url("/a.png"))
    assert len(host.requests) == asked


def test_one_address_that_is_not_public_refuses_the_whole_name() -> None:
    def resolve(name: str, port: int) -> list[Address]:
        return [ipaddress.ip_address("203.0.114.7"), ipaddress.ip_address("10.0.0.1")]

    with pytest.raises(InputRefusedError, match="private, loopback"):
        Fetcher(resolve=resolve).fetch("https://pictures.test/a.png")


def test_a_name_is_resolved_once_for_each_connection(host: PicturesHost) -> None:
    """So that a name server cannot answer with another address after the check."""
    resolved: list[str] = []
    inner = host.fetcher()

    def resolve(name: str, port: int) -> list[Address]:
        resolved.append(name)
        return list(inner._resolve(name, port))

    Fetcher(resolve=resolve, is_allowed=inner._is_allowed, ssl_context=inner._ssl_context).fetch(host.url("/a.png"))

    assert resolved == ["pictures.test"]


def test_the_certificate_has_to_be_for_the_name_in_the_url(host: PicturesHost) -> None:
    with pytest.raises(InputMissingError, match="certificate"):
        host.fetcher().fetch(host.url("/a.png", name="other.test"))


@pytest.mark.parametrize("name", ["a..b", f"{'a' * 64}.example"])
def test_a_name_that_cannot_exist_is_refused(name: str) -> None:
    with pytest.raises(InputRefusedError):
        Fetcher().fetch(f"https://{name}/a.png")


def test_a_name_that_does_not_exist_is_a_missing_input(host: PicturesHost) -> None:
    with pytest.raises(InputMissingError, match="does not exist"):
        host.fetcher().fetch("https://nowhere.test/a.png")


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_a_client_error_is_a_missing_input(host: PicturesHost, status: int) -> None:
    with pytest.raises(InputMissingError, match=str(status)):
        host.fetcher().fetch(host.serves("/refused", status=status))


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_error_may_pass(host: PicturesHost, status: int) -> None:
    with pytest.raises(InputUnavailableError, match=str(status)):
        host.fetcher().fetch(host.serves("/trouble", status=status))


def test_a_connection_that_fails_may_pass(host: PicturesHost) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(InputUnavailableError, match="connection"):
        host.fetcher().fetch(f"https://pictures.test:{port}/a.png")


def test_an_input_larger_than_the_limit_is_refused(host: PicturesHost) -> None:
    with pytest.raises(InputRefusedError, match="larger than"):
        host.fetcher().fetch(host.serves("/large", bytes(fetcher.MAX_BYTES + 1)))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_host_that_does_not_answer_costs_no_more_than_the_time_for_an_input(
    host: PicturesHost, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher, "TOTAL_SECONDS", 0.2)
    with pytest.raises(InputUnavailableError, match="in time"):
        host.fetcher().fetch(f"https://pictures.test:{silent_port}/a.png")


def test_a_fetch_takes_no_longer_than_its_job_has_left(host: PicturesHost, silent_port: int) -> None:
    deadline = time.monotonic() + 0.2
    with pytest.raises(InputUnavailableError, match="in time"):
        host.fetcher().fetch(f"https://pictures.test:{silent_port}/a.png", lambda: deadline - time.monotonic())


def test_a_fetch_ends_between_two_reads_when_its_job_does(host: PicturesHost) -> None:
    with pytest.raises(HandedBackError):
        host.fetcher().fetch(host.url("/a.png"), seconds_for(steps=2))
