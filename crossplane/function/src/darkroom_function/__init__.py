"""The compositions: pure functions from a composite, and what is observed of it, to AWS resources."""
