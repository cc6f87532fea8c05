"""The models of a cluster, in its bucket: what may be there, and how it gets there and back."""
