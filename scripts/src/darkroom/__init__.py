"""The darkroom command, and the local stack behind make demo."""
