"""Darkroom's API: a Lambda function that takes prompts, records them and publishes them.

``handler`` knows API Gateway, ``requests`` the bodies of each API version; ``submit`` and ``status`` are what the API
does, on S3 and SNS; ``registry`` knows the runtimes; ``service`` puts it together from the environment.
"""
