"""The local stack: the whole flow on one machine, with the composed resources applied to an AWS emulator.

It starts processes on loopback and stops them; it touches no AWS account.
"""
