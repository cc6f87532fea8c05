"""ComfyUI's API."""
