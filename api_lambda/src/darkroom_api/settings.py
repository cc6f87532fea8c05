"""The function's settings, from its environment."""

from pydantic import Field

from darkroom_contract.environment import CommaSeparated, Environment
from darkroom_contract.types import DEFAULT_TENANT


class Settings(Environment):
    """Environment variables, beside the AWS SDK's own."""

    prompt_topic_arn: str
    output_bucket: str
    #: Without it no records are kept, every runtime's name is taken, and large bodies are refused.
    jobs_bucket: str | None = None
    tenants: CommaSeparated = (DEFAULT_TENANT,)
    #: The function's own timeout: when this has passed, whoever began a submission is no longer at it.
    timeout_seconds: float = Field(default=10, gt=0)
    #: The SDK reads it too: an emulator of AWS.
    aws_endpoint_url: str | None = None
