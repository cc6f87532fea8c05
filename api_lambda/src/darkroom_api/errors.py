"""Why a request is refused, as an exception, and which failures of AWS will pass. Pure."""

from botocore import exceptions as aws

from darkroom_contract.errors import ApiError, ErrorCode
from darkroom_contract.job import FieldError

#: What clients of AWS raise; neither is the other's base.
AWS_ERRORS = (aws.BotoCoreError, aws.ClientError)

#: When to send a request again that met a failure of AWS, in seconds.
RETRY_SECONDS = 2

_PASSING = (
    aws.ConnectionError,
    aws.HTTPClientError,
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
)
#: Credentials that have ended, or that AWS does not know yet.
_CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "UnrecognizedClientException",
    }
)


class Refused(Exception):  # noqa: N818 - it says what happened to the request
    """The request is not done; ``retry_after`` is when to send it again, in seconds."""

    def __init__(
        self, code: ErrorCode, message: str, *, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.error = ApiError(code=code, message=message, field=field)
        self.retry_after = retry_after


def refusal(error: Exception) -> Refused:
    """How any exception is answered; what is not expected is answered without its details."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, FieldError):
        # Where the content is the body itself, its fields' names come with the dot before them.
        return Refused(ErrorCode.INVALID_FIELD, error.message, field=error.field.removeprefix("."))
    if is_passing(error):
        return unavailable(RETRY_SECONDS)
    return Refused(ErrorCode.INTERNAL, "something went wrong; the request may be sent again")


def unavailable(retry_after: int) -> Refused:
    """The refusal of a request that will do when it is sent again."""
    message = f"not done yet; send the same request again in {retry_after} s"
    return Refused(ErrorCode.UNAVAILABLE, message, retry_after=retry_after)


def is_passing(error: Exception) -> bool:
    """Whether the error is a failure of AWS that the same call may not meet later: throttling, network, credentials."""
    if not isinstance(error, aws.ClientError):
        return isinstance(error, _PASSING)
    metadata = error.response.get("ResponseMetadata", {})
    return (
        # The SDK found it worth another attempt, but had none left.
        bool(metadata.get("MaxAttemptsReached") or metadata.get("RetryQuotaReached"))
        or metadata.get("HTTPStatusCode", 0) >= 500
        or error.response.get("Error", {}).get("Code") in _CREDENTIAL_CODES
    )
