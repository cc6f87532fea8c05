"""A client of the API: submit a job, follow it, fetch its pictures. It talks HTTP to one deployment."""

import time
from collections.abc import Iterator
from typing import Self

import httpx
from pydantic import ValidationError

from darkroom_contract.errors import ApiError, ErrorCode, ErrorResponse
from darkroom_contract.v1 import Image, JobView, SubmitRequest

#: Answers that say "send it again a little later".
_RETRIED = (429, 502, 503, 504)


class RequestRefused(Exception):  # noqa: N818 - it says what happened
    """The API refused a request; ``error`` says why."""

    def __init__(self, status: int, error: ApiError) -> None:
        super().__init__(f"{error.field}: {error.message}" if error.field else error.message)
        self.status = status
        self.error = error


class Client:
    """The API at ``url`` (with its stage), as the tenant of the key."""

    def __init__(self, url: str, api_key: str, *, patience: float = 60) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/") + "/", headers={"x-api-key": api_key}, timeout=30)
        #: For how many seconds a request is sent again that the API could not take at the moment.
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def submit(self, request: SubmitRequest) -> JobView:
        """Submit a job. With an id it is safe to repeat; raises ``RequestRefused`` or httpx's errors."""
        return self._ask("POST", "v1/jobs", content=request.model_dump_json(exclude_none=True))

    def job(self, job_id: str) -> JobView:
        """Where a job stands; raises ``RequestRefused`` or httpx's errors."""
        return self._ask("GET", f"v1/jobs/{job_id}")

    def follow(self, job: JobView, interval: float = 0.3) -> Iterator[JobView]:
        """The job each time it has moved, until nothing will change any more. ``interval`` in seconds."""
        yield job
        while not job.status.is_final:
            time.sleep(interval)
            latest = self.job(job.id)
            if latest != job:
                job = latest
                yield job

    def download(self, image: Image) -> bytes:
        """A picture's bytes."""
        return httpx.get(image.url, timeout=60).raise_for_status().content

    def _ask(self, method: str, path: str, content: str | None = None) -> JobView:
        headers = {"content-type": "application/json"} if content else {}
        deadline = time.monotonic() + self._patience
        while True:
            answer = self._http.request(method, path, content=content, headers=headers)
            wait = _retry_after(answer)
            if answer.status_code not in _RETRIED or time.monotonic() + wait > deadline:
                break
            time.sleep(wait)
        if answer.is_success:
            return JobView.model_validate_json(answer.content)
        try:
            error = ErrorResponse.model_validate_json(answer.content).error
        except ValidationError:
            message = f"the API answered with status {answer.status_code}"
            error = ApiError(code=ErrorCode.INTERNAL, message=message)
        raise RequestRefused(answer.status_code, error)


def _retry_after(answer: httpx.Response) -> float:
    """Seconds to wait before the request is sent again."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 1.0
