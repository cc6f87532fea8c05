"""A client of the API: submit a job, follow or cancel it, fetch its pictures. It talks HTTP to one deployment."""

import time
from collections.abc import Callable, Iterator
from typing import Self

import httpx
from pydantic import ValidationError

from darkroom_contract.errors import ApiError, ErrorCode, ErrorResponse
from darkroom_contract.v1 import Image, JobView, SubmitRequest

#: Answers after which nothing was done, so that anything may be sent again.
_NOT_DONE = (429,)
#: Answers after which it is not known what was done.
_UNKNOWN = (500, 502, 503, 504)
#: No answer at all. A URL that httpx does not take is none of these.
_UNREACHABLE = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


class RequestRefused(Exception):  # noqa: N818 - it says what happened
    """The API refused a request; ``error`` says why."""

    def __init__(self, status: int, error: ApiError) -> None:
        super().__init__(f"{error.field}: {error.message}" if error.field else error.message)
        self.status = status
        self.error = error


class Client:
    """The API at ``url`` (with its stage), as the tenant of the key."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        on_retry: Callable[[int], None] = lambda _: None,
        patience: float = 60,
        pause: float = 0.3,
    ) -> None:
        self.url = url
        #: Called before a request is sent again, with how often that makes; what it raises ends the trying.
        self._on_retry = on_retry
        self._http = httpx.Client(base_url=url.rstrip("/") + "/", headers={"x-api-key": api_key}, timeout=30)
        #: For how many seconds a request is sent again that the API could not take at the moment.
        self._patience = patience
        #: The first pause between two looks or tries, in seconds; they grow to ten times that.
        self._pause = pause

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def submit(self, request: SubmitRequest) -> JobView:
        """Submit a job. With an id it is safe to repeat; raises ``RequestRefused`` or httpx's errors."""
        content = request.model_dump_json(exclude_none=True)
        return self._ask("POST", "v1/jobs", content, repeatable=request.id is not None)

    def job(self, job_id: str) -> JobView:
        """Where a job stands; raises ``RequestRefused`` or httpx's errors."""
        return self._ask("GET", f"v1/jobs/{job_id}")

    def cancel(self, job_id: str) -> JobView:
        """Cancel a job, unless it has ended; raises ``RequestRefused`` or httpx's errors."""
        return self._ask("POST", f"v1/jobs/{job_id}/cancel")

    def follow(self, job: JobView, meanwhile: Callable[[], None] = lambda: None) -> Iterator[JobView]:
        """The job each time it has moved, until nothing will change any more.

        ``meanwhile`` is called before each look; what it raises ends the following.
        """
        yield job
        pauses = self._pauses()
        while not job.status.is_final:
            time.sleep(next(pauses))
            meanwhile()
            latest = self.job(job.id)
            if latest != job:
                job, pauses = latest, self._pauses()
                yield job

    def download(self, image: Image) -> bytes:
        """A picture's bytes."""
        return httpx.get(image.url, timeout=60).raise_for_status().content

    def _ask(self, method: str, path: str, content: str | None = None, *, repeatable: bool = True) -> JobView:
        headers = {"content-type": "application/json"} if content else {}
        answer = self._send(self._http.build_request(method, path, content=content, headers=headers), repeatable)
        if answer.is_success:
            return JobView.model_validate_json(answer.content)
        try:
            error = ErrorResponse.model_validate_json(answer.content).error
        except ValidationError:
            message = f"the API answered with status {answer.status_code}"
            error = ApiError(code=ErrorCode.INTERNAL, message=message)
        raise RequestRefused(answer.status_code, error)

    def _send(self, request: httpx.Request, repeatable: bool) -> httpx.Response:
        """The answer to a request, sent again for as long as the patience lasts and that may help."""
        deadline, pauses, tries = time.monotonic() + self._patience, self._pauses(), 0
        while True:
            pause, tries = next(pauses), tries + 1
            try:
                answer = self._http.send(request)
            except _UNREACHABLE:
                if not repeatable or time.monotonic() + pause > deadline:
                    raise
            else:
                pause = max(pause, _retry_after(answer))
                may_help = answer.status_code in (_NOT_DONE + _UNKNOWN if repeatable else _NOT_DONE)
                if not may_help or time.monotonic() + pause > deadline:
                    return answer
            self._on_retry(tries)
            time.sleep(pause)

    def _pauses(self) -> Iterator[float]:
        pause = self._pause
        while True:
            yield pause
            pause = min(1.5 * pause, 10 * self._pause)


def _retry_after(answer: httpx.Response) -> float:
    """For how many seconds the API asks to wait."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0
