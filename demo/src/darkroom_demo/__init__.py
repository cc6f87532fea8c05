"""Darkroom's demo runtime: speaks the HTTP APIs of both engines and draws with a small model."""
