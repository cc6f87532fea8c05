"""What goes wrong in a way that the user can mend."""


class Trouble(Exception):  # noqa: N818 - it is said to the user as it is
    """A sentence that says what would be right. The command shows it without a traceback."""


class UsageError(Trouble):
    """What was asked for contradicts itself or cannot be done; the message says why."""
