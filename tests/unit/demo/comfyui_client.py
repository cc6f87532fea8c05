"""A small ComfyUI client, and the workflow that the tests run."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

Message = tuple[str, dict[str, Any]]


def workflow(seed: int = 42, text: str = "a fox", **sampler: Any) -> dict[str, Any]:
    """ComfyUI's default workflow, small and short."""
    ksampler = {
        "model": ["4", 0],
        "positive": ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
        "seed": seed,
        "steps": 4,
        "cfg": 8.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    return {
        "3": {"class_type": "KSampler", "inputs": ksampler | sampler},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5-pruned-emaonly.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 96, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"}},
    }


class Client:
    """One client with its websocket."""

    def __init__(self, url: str, socket: ClientConnection, client_id: str) -> None:
        self.http = httpx.Client(base_url=url)
        self.socket = socket
        self.client_id = client_id

    def submit(self, prompt: dict[str, Any], **content: Any) -> str:
        answer = self.http.post("/prompt", json={"prompt": prompt, "client_id": self.client_id, **content})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["prompt_id"])

    def receive(self) -> Message:
        message = json.loads(self.socket.recv(timeout=30))
        return message["type"], message["data"]

    def until_done(self, prompt_id: str) -> list[Message]:
        """Return the messages up to the one that says that nothing is executed any more."""
        messages = [self.receive()]
        while messages[-1] != ("executing", {"node": None, "prompt_id": prompt_id}):
            messages.append(self.receive())
        return messages

    def until_executing(self, prompt_id: str, node: str) -> None:
        while self.receive() != ("executing", {"node": node, "display_node": node, "prompt_id": prompt_id}):
            pass

    def history(self, prompt_id: str) -> dict[str, Any]:
        entry: dict[str, Any] = self.http.get(f"/history/{prompt_id}").json()[prompt_id]
        return entry

    def view(self, **query: str) -> httpx.Response:
        return self.http.get("/view", params=query)


@contextmanager
def client_of(url: str) -> Iterator[Client]:
    client_id = str(uuid.uuid4())
    with connect(f"{url.replace('http', 'ws')}/ws?clientId={client_id}") as socket:
        yield Client(url, socket, client_id)


def data_of(messages: list[Message], event: str) -> list[dict[str, Any]]:
    return [data for name, data in messages if name == event]
