"""Which URLs and addresses an input picture may be fetched from. Pure: it resolves and fetches nothing."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

#: IANA's special-purpose address registries, and multicast: Python's own list varies with its patch level. Of IPv6 only
#: global unicast counts at all, and what hides an IPv4 address in it does not.
_SPECIAL_IPV4 = tuple(
    ipaddress.IPv4Network(net)
    for net in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    ipaddress.IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def check_url(url: str) -> None:
    """Refuse a URL that no agent would fetch; raises ``ValueError`` with what would be right.

    It looks at the text alone. What a host's name resolves to is checked where it is fetched.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "s3"):
        raise ValueError("an input is fetched from https:// or s3:// only")
    if not parts.hostname:
        raise ValueError("the URL has no host")
    if parts.username or parts.password:
        raise ValueError("the URL must not carry a user name or password")
    if parts.scheme == "s3":
        if not parts.path.strip("/"):
            raise ValueError("an s3:// URL is s3://<bucket>/<key>")
        return
    _ = parts.port  # raises ValueError when it is not a number
    host = parts.hostname.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        raise ValueError("the URL's host is this host; only public hosts are fetched from")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    if not is_public(address):
        raise ValueError("the URL's host is a private, loopback, link-local or reserved address")


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address may be fetched from: it is global unicast, and hides no IPv4 address that is not."""
    if isinstance(address, IPv4Address):
        return not any(address in net for net in _SPECIAL_IPV4)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_IPV6 and not any(address in net for net in _SPECIAL_IPV6)
