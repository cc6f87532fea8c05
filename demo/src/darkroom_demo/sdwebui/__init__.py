"""The AUTOMATIC1111 web UI's API."""
