"""A function for tests of the local Lambda: the event's body says what to do."""

import os
import socket
import sys
from typing import Any

if "DIES_AT_INIT" in os.environ:
    sys.exit("there is something wrong with the image")

_ANSWERS: dict[str, Any] = {
    "text": "no object",
    "no status": {"body": "hello"},
    "a body that is no text": {"statusCode": 200, "body": ["hello"]},
    "picture": {
        "statusCode": 201,
        "isBase64Encoded": True,
        "body": "iVBORw==",
        "headers": {"content-type": "image/png"},
        "multiValueHeaders": {"x-seen": ["a", "b"]},
    },
}


def handler(event: dict[str, Any], _context: object) -> Any:
    order = event["body"]
    if order == "raise":
        raise RuntimeError("it went wrong")
    if order == "end":
        os._exit(1)
    if order.startswith("call "):  # until the other end hangs up
        socket.create_connection(("127.0.0.1", int(order[5:]))).recv(1)
    return _ANSWERS.get(order, {"statusCode": 200, "body": str(len(order))})
