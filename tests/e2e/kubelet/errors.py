"""What can go wrong with the pods of the stand-in of the kubelet."""


class NotStarted(Exception):  # noqa: N818 - it says what happened
    """A container cannot be started now: the reason as its status gives it, and a sentence. It is tried again."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Unsupported(Exception):  # noqa: N818
    """A pod has something in its spec that the stand-in does not play: the test would not show what it seems to."""


class StandInFailed(Exception):  # noqa: N818
    """The stand-in itself does not work."""
