"""The AWS account of a cluster, as the AWS SDK finds it: AWS_PROFILE, AWS_ENDPOINT_URL and so on."""

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from darkroom.trouble import Trouble
from darkroom_contract.cluster import Location


class WrongAccount(Trouble):
    """There are no credentials, or they are for another account than the cluster's."""


def session(location: Location) -> boto3.Session:
    """A session for the cluster's account and region; raises ``WrongAccount``.

    Nothing is asked or changed in an account that the cluster does not name.
    """
    try:
        found = boto3.Session(region_name=location.region)
        account = found.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise WrongAccount(
            f"AWS does not know who asks: {error}. Log in (aws sso login), or set AWS_PROFILE to a profile for account "
            f"{location.account}"
        ) from error
    if account != location.account:
        raise WrongAccount(
            f"these credentials are for account {account}, and cluster {location.name} is in {location.account}: set "
            "AWS_PROFILE, or mend cluster.account in its cluster.yaml"
        )
    return found
