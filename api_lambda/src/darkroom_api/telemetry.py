"""What is logged and counted, on standard output.

Neither ever holds an API key, a header, a query string or any part of a body. Tracing is Lambda's own; ``trace`` says
which trace a job's message belongs to.
"""

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger(service="darkroom-api")


def count(metric: str, **dimension: str) -> None:
    """Add one to a metric, in CloudWatch's embedded metric format."""
    with single_metric(name=metric, unit=MetricUnit.Count, value=1, namespace="Darkroom") as counted:
        for name, value in dimension.items():
            counted.add_dimension(name=name, value=value)
