"""Darkroom's queue agent: it takes messages off a runtime's queue and turns each into pictures in S3.

``worker`` is the loop and ``policy`` decides which of the ``endings`` a message has; ``transport`` is SQS, ``engines``
the runtimes, ``inputs`` and ``fetcher`` bring input pictures, ``records`` and ``delivery`` keep and announce what came
of a job.
"""
