"""A small server that behaves as vLLM does towards a proxy: models by name, its load API, streams, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from ual_registry.web.gate import Gate

BASE = "org/base"


@dataclass
class FakeVLLM:
    """What the server has, and was asked.

    Attributes:
        loaded: Path of each adapter by name.
        asked: Bodies of questions.
        keys: Authorization of each question.
        loads: Bodies of the load API.
        load_error: What the load API answers, if it refuses.
        breaks: Whether answers break off after their first part.
        keeps_adapters: Whether an adapter is there after it was loaded.
        ended: Streams that ended, early or not.
        sent: Parts of streams that were sent.
    """

    loaded: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    loads: list[dict[str, Any]] = field(default_factory=list)
    load_error: str | None = None
    breaks: bool = False
    keeps_adapters: bool = True
    ended: int = 0
    sent: int = 0

    def app(self) -> FastAPI:
        app = FastAPI()
        app.state.gate = Gate(running=1, waiting=0)
        app.add_route("/v1/models", self._models)
        app.add_route("/v1/load_lora_adapter", self._load, methods=["POST"])
        app.add_route("/v1/chat/completions", self._answer, methods=["POST"])
        app.add_route("/v1/completions", self._answer, methods=["POST"])
        return app

    async def _models(self, _: Request) -> Response:
        own = [{"id": BASE, "object": "model", "parent": None}]
        own += [{"id": name, "object": "model", "parent": BASE} for name in self.loaded]
        return JSONResponse({"object": "list", "data": own})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        self.loads.append(body)
        if self.load_error is not None:
            return JSONResponse({"error": {"message": self.load_error}}, status_code=400)
        if self.keeps_adapters:
            self.loaded[body["lora_name"]] = body["lora_path"]
        return Response(f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def _answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        model = body["model"]
        if model not in {BASE, *self.loaded}:
            error = {"message": f"The model `{model}` does not exist.", "type": "NotFoundError", "code": 404}
            return JSONResponse({"error": error}, status_code=404)
        if body.get("stream"):
            return StreamingResponse(self._events(model, body["max_tokens"]), media_type="text/event-stream")
        if self.breaks:
            return StreamingResponse(self._events(model, 1), media_type="application/json")
        message = {"role": "assistant", "content": model}
        return JSONResponse(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [{"index": 0, "message": message, "text": model, "finish_reason": "stop"}],
            }
        )

    async def _events(self, model: str, count: int) -> AsyncIterator[bytes]:
        try:
            for _ in range(count):
                chunk = {
                    "id": "1",
                    "object": "text_completion",
                    "created": 0,
                    "model": model,
                    "choices": [{"index": 0, "text": model, "finish_reason": None}],
                }
                self.sent += 1
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
                if self.breaks:
                    raise ConnectionError
                await asyncio.sleep(0.02)
            yield b"data: [DONE]\n\n"
        finally:
            self.ended += 1
