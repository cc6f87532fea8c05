"""What the parts of Darkroom agree on: requests, jobs, records, notifications, descriptions and names.

Pure data and pure functions on pydantic models. Only ``store`` talks to AWS, through a client that it is given.
"""
