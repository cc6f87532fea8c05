"""The commands: what is typed after ``darkroom``, one module for those that belong together."""
