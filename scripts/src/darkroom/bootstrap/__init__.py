"""``darkroom bootstrap``: from a cluster's folder to a cluster that runs, step by step.

``plan`` has the list of the steps, ``steps`` what runs them. Each other module has the steps of one concern.
"""
