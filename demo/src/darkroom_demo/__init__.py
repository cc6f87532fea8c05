"""Darkroom's demo runtime: speaks the HTTP APIs of both engines and draws with a small model."""

from darkroom_demo.server import DemoServer, Engine, serving

__all__ = ["DemoServer", "Engine", "serving"]
