"""The function's parts, put together from its environment: made once in each execution environment."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import boto3
from botocore.config import Config

from darkroom_api.registry import Registry
from darkroom_api.settings import Settings
from darkroom_api.status import Jobs
from darkroom_api.submit import Submissions
from darkroom_contract.names import api_key_prefix
from darkroom_contract.store import JobStore


@dataclass(frozen=True)
class Service:
    """What the API does, and for whom: tenants by the beginning of their keys."""

    tenants: dict[str, str]
    submissions: Submissions
    jobs: Jobs


@cache
def service() -> Service:
    """The service that the environment describes; raises ``SettingsError`` when it does not."""
    settings = Settings.load()
    session = boto3.Session()
    # Three attempts at a service that does not answer, and the SDK's pauses of up to 1 s and 2 s, fit the timeout.
    config = Config(
        connect_timeout=min(1, settings.timeout_seconds / 10),
        read_timeout=settings.timeout_seconds / 6,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    # Presigned URLs go to the bucket's own region only with the bucket in the host's name, which emulators lack.
    style: Literal["path", "virtual"] = "path" if settings.aws_endpoint_url else "virtual"
    s3_config = Config(
        signature_version="s3v4", s3={"addressing_style": style, "us_east_1_regional_endpoint": "regional"}
    )
    s3 = session.client("s3", config=config.merge(s3_config))
    sns = session.client("sns", config=config)
    store = JobStore(s3, settings.jobs_bucket) if settings.jobs_bucket else None
    registry = Registry(s3, settings.jobs_bucket) if settings.jobs_bucket else None
    jobs = Jobs(store, s3, settings.output_bucket)
    return Service(
        tenants={api_key_prefix(tenant): tenant for tenant in settings.tenants},
        submissions=Submissions(settings, sns, registry, store, jobs),
        jobs=jobs,
    )
