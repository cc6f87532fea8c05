"""The trace that a request is a part of, as its message carries it on. Pure.

Formats: W3C Trace Context, "traceparent Header"; AWS X-Ray developer guide, "Tracing header".
"""

import re
from collections.abc import Mapping

#: How the header and the message attribute are called.
TRACEPARENT = "traceparent"
#: Where Lambda says which trace an invocation belongs to.
XRAY_VARIABLE = "_X_AMZN_TRACE_ID"

_NOT_ZEROS = "(?!0+(?:-|$))"
_W3C = re.compile(f"00-{_NOT_ZEROS}[0-9a-f]{{32}}-{_NOT_ZEROS}[0-9a-f]{{16}}-[0-9a-f]{{2}}")
_XRAY_ROOT = re.compile("1-([0-9a-f]{8})-([0-9a-f]{24})")


def traceparent(headers: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """The client's ``traceparent``, or else that of Lambda's own trace; None when there is neither.

    Names of ``headers`` are in lower case.
    """
    candidates = (headers.get(TRACEPARENT, "").strip(), _of_xray(environ.get(XRAY_VARIABLE, "")))
    return next((candidate for candidate in candidates if _W3C.fullmatch(candidate)), None)


def _of_xray(header: str) -> str:
    fields = dict(field.strip().partition("=")[::2] for field in header.split(";"))
    root = _XRAY_ROOT.fullmatch(fields.get("Root", ""))
    if root is None:
        return ""
    return f"00-{root[1]}{root[2]}-{fields.get('Parent', '')}-{'01' if fields.get('Sampled') == '1' else '00'}"
