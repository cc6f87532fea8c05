"""What holds for all tests."""

import logging

# If nobody listens when it first speaks, werkzeug, which the emulators are served by, listens to itself: on the stderr
# of that moment, which may be a test's own and closed soon after. From then on each request complains of it aloud.
logging.getLogger("werkzeug").addHandler(logging.NullHandler())
