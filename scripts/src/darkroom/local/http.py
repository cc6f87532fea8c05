"""What the local stack's HTTP servers share. Pure."""

from typing import Any

from werkzeug.serving import WSGIRequestHandler


class QuietHandler(WSGIRequestHandler):
    """Keeps connections open, and says nothing of requests that were answered."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_args: Any) -> None:
        """Say nothing."""
