"""What every server here has around its answers: errors in OpenAI's shape, health, metrics, a log line a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from ual_registry.dispatch.answer import decision_of
from ual_registry.dispatch.decision import Decision
from ual_registry.web.answers import adapter_headers, decision_headers
from ual_registry.web.failure import ClientGoneError, HttpError, explain
from ual_registry.web.gate import Gate
from ual_registry.web.metrics import Metrics
from ual_registry.web.presence import Presence

__all__ = ["CLIENT_GONE", "LOG", "EndingAnswer", "EndingStream", "Visit", "framed"]

LOG = logging.getLogger("ual_registry.web")
CLIENT_GONE = 499
"""How logs and metrics tell that the client went away; nobody gets to read it."""

Answer = Callable[[Request], Awaitable[Response]]


def framed(gate: Gate, metrics: Metrics, close: Callable[[], Any]) -> FastAPI:
    """Return an application with health, metrics and errors.

    Args:
        gate: Its door.
        metrics: Its numbers.
        close: Called, and awaited where it is to be, when the server has stopped.
    """

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        found = close()
        if found is not None:
            await found

    app = FastAPI(title="ual serve", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.gate = gate

    async def health(_: Request) -> Response:
        state = "stopping" if gate.is_closed else "ok"
        document = {"status": state, "running": gate.running, "waiting": gate.waiting}
        return JSONResponse(document, status_code=503 if gate.is_closed else 200)

    async def numbers(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.add_route("/health", health)
    app.add_route("/metrics", numbers)
    app.add_exception_handler(HTTPException, _unknown_address)
    return app


async def _unknown_address(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = "method_not_allowed" if status == 405 else "unknown_url"
    message = f"nothing answers {request.method} {request.url.path}"
    if what == "unknown_url" and not request.url.path.startswith("/v1/"):
        message += "; the addresses of OpenAI's interface begin with /v1/"
    return _error(HttpError(status, what, message))


@dataclass(slots=True, kw_only=True)
class Visit:
    """One request from its arrival to its end: what is counted and logged of it.

    Attributes:
        endpoint: What it asks for.
        metrics: Where it is counted.
        id: Names the request.
        since: When it arrived.
        facts: What the log line says of it.
        said: Headers that say who answers and why, as far as that is known.
        read: Tokens of its prompt.
        written: Tokens generated.
    """

    endpoint: str
    metrics: Metrics
    id: str
    since: float = field(default_factory=time.monotonic)
    facts: dict[str, Any] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    read: int = 0
    written: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of its answer."""
        return {**self.said, "x-request-id": self.id}

    @property
    def seconds(self) -> float:
        """How long it takes by now."""
        return time.monotonic() - self.since

    def decided(self, decision: Decision, *, is_fallback: bool) -> None:
        """Note what was decided; any thread may call this."""
        self.metrics.decided(decision)
        self.facts |= {
            "domain": decision.domain,
            "adapter": decision.adapter,
            "reason": str(decision.reason),
            "probability": decision.probability,
            "is_fallback": is_fallback,
        }
        self.said |= decision_headers(decision)

    def began(self, adapter: str | None, *, is_fallback: bool) -> None:
        """Note who answers, once the first part is there; any thread may call this."""
        self.metrics.began(self.endpoint, is_fallback=is_fallback, seconds=self.seconds)
        self.facts["adapter"] = adapter
        self.said |= adapter_headers(adapter)

    def ended(self, status: int) -> None:
        """Count the request and write its line; what was asked and answered is no part of it."""
        self.metrics.ended(self.endpoint, status, self.seconds, read=self.read, written=self.written)
        line = {"id": self.id, "endpoint": self.endpoint, "status": status, **self.facts}
        line |= {"prompt_tokens": self.read, "completion_tokens": self.written, "seconds": round(self.seconds, 4)}
        LOG.info(json.dumps(line, ensure_ascii=False))

    def failed(self, error: BaseException) -> Response:
        """Return the answer to an error, counted and logged."""
        if isinstance(error, ClientGoneError):
            self.ended(CLIENT_GONE)
            return Response(status_code=CLIENT_GONE)
        found, decision = self.told(error), decision_of(error)
        if decision is not None and "reason" not in self.facts:  # otherwise it was noted when the answer began
            self.decided(decision, is_fallback=False)
        self.ended(found.status)
        found.headers |= self.headers
        return _error(found)

    def told(self, error: BaseException) -> HttpError:
        """Return what the client is told of an error; what is the server's fault is logged whole."""
        found = explain(error if isinstance(error, Exception) else RuntimeError())
        if found.status == 500:
            LOG.error("request %s: %s", self.id, error, exc_info=error)
        self.facts["error"] = found.kind
        return found


class EndingAnswer(Response):
    """A whole answer that says when it is over.

    Attributes:
        over: Called once it is on its way, so that the client does not wait for what it does.
    """

    over: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            asyncio.get_running_loop().call_soon(self.over)


class EndingStream(StreamingResponse):
    """A stream that says when it is over, however it ends.

    Attributes:
        over: Called at the end.
    """

    over: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream for as long as the client is there."""
        try:
            with contextlib.suppress(ClientGoneError):
                async with Presence(receive):
                    await self.stream_response(send)
        finally:
            asyncio.get_running_loop().call_soon(self.over)


def _error(error: HttpError) -> Response:
    return JSONResponse(error.document(), status_code=error.status, headers=error.headers)
