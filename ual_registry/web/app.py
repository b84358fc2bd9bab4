"""The server over an engine: OpenAI's endpoints, each answered by the adapter that its query needs."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ual_registry.web.answers import DONE, JSON, Form, event, model_document, models_document, rendered
from ual_registry.web.engine import Engine, Question, Reply
from ual_registry.web.failure import HttpError, unknown_model
from ual_registry.web.frame import CLIENT_GONE, EndingAnswer, EndingStream, Visit, framed
from ual_registry.web.gate import Gate
from ual_registry.web.limits import Limits, read_document
from ual_registry.web.metrics import Metrics
from ual_registry.web.presence import Presence
from ual_registry.web.questions import Order, parse_chat, parse_completion
from ual_registry.web.run import Run

__all__ = ["make_app"]

Parse = Callable[[Mapping[str, Any], Limits], Order]


def make_app(engine: Engine, limits: Limits | None = None) -> FastAPI:
    """Return the server of an engine.

    Args:
        engine: What generates; it is closed when the server has stopped.
        limits: How much the server takes on.
    """
    desk = _Desk(engine, limits or Limits())
    app = framed(desk.gate, desk.metrics, desk.close)
    app.add_route("/v1/models", desk.models)
    app.add_route("/v1/models/{name:path}", desk.model)
    app.add_route("/v1/chat/completions", partial(desk.answer, endpoint="chat", parse=parse_chat), methods=["POST"])
    app.add_route(
        "/v1/completions", partial(desk.answer, endpoint="completions", parse=parse_completion), methods=["POST"]
    )
    return app


class _Desk:
    """Answers the requests of one server."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine, self._limits = engine, limits
        self._threads = ThreadPoolExecutor(limits.max_running, thread_name_prefix="ual-answers")
        self.gate = Gate(running=limits.max_running, waiting=limits.max_waiting)
        self.metrics = Metrics(self.gate, engine.cache)
        self._runs: set[Run] = set()

    async def models(self, _: Request) -> Response:
        """List the models."""
        visit = self._visit("models")
        try:
            found = models_document(await asyncio.to_thread(self._engine.models))
        except Exception as error:  # noqa: BLE001  # told as OpenAI tells it
            return visit.failed(error)
        visit.ended(200)
        return JSONResponse(found)

    async def model(self, request: Request) -> Response:
        """Show one model."""
        visit, name = self._visit("models"), request.path_params["name"]
        try:
            found = await asyncio.to_thread(self._engine.model, name)
            if found is None:
                raise unknown_model(name)  # noqa: TRY301  # told as any other error
        except Exception as error:  # noqa: BLE001  # likewise
            return visit.failed(error)
        visit.ended(200)
        return JSONResponse(model_document(found))

    async def answer(self, request: Request, *, endpoint: str, parse: Parse) -> Response:
        """Answer a question."""
        visit = self._visit(endpoint)
        try:
            order = parse(await read_document(request, self._limits), self._limits)
            visit.facts["model"] = order.question.model
            return await self._answer(request, order, visit)
        except Exception as error:  # noqa: BLE001  # told as OpenAI tells it
            return visit.failed(error)

    async def close(self) -> None:
        """End what still runs, and let the engine go."""
        for run in list(self._runs):
            run.stop()
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.close()

    async def _answer(self, request: Request, order: Order, visit: Visit) -> Response:
        async with Presence(request.receive):
            since = await self.gate.enter()
            run = self._run(order, visit, since)
            try:
                await run.reply()
                form = Form(order=order, prompt_tokens=visit.read)
                if order.is_streamed:
                    return _streamed(run, form, visit)
                found = EndingAnswer(await _whole(run, form, visit), media_type=JSON, headers=visit.headers)
            except BaseException:
                run.stop()
                raise
        found.over = partial(visit.ended, 200)
        return found

    def _run(self, order: Order, visit: Visit, since: float) -> Run:
        """Begin an answer in a thread."""

        def left() -> None:
            self._runs.discard(run)
            self.gate.leave(since)

        begin = partial(self._begin, order.question, visit)
        run = Run(self._threads, begin, left, is_whole=not order.is_streamed)
        self._runs.add(run)
        return run

    def _begin(self, question: Question, visit: Visit) -> Reply:
        """Begin a reply, and note who gives it, also where nobody gets to hear it; this runs in a thread."""
        read = self._engine.read(question)
        visit.read = read.tokens
        most = self._limits.max_prompt_tokens
        if most is not None and visit.read > most:
            raise HttpError(
                400,
                "context_length_exceeded",
                f"the prompt has {visit.read} tokens, expected at most {most}",
                param="prompt" if question.is_plain else "messages",
            )
        reply = self._engine.stream(read)
        visit.decided(reply.decision, is_fallback=reply.is_fallback)
        visit.began(reply.adapter, is_fallback=reply.is_fallback)
        return reply

    def _visit(self, endpoint: str) -> Visit:
        return Visit(endpoint=endpoint, metrics=self.metrics, id=f"req_{secrets.token_hex(12)}")


async def _whole(run: Run, form: Form, visit: Visit) -> bytes:
    texts, finish = [], None
    async for part in run.parts():
        texts.append(part.text)
        visit.written, finish = part.tokens, part.finish
    return rendered(form.whole("".join(texts), visit.written, finish))


def _streamed(run: Run, form: Form, visit: Visit) -> Response:
    """Return the answer part by part; where it ends early, so does the generation."""
    state = {"status": CLIENT_GONE}

    async def events() -> AsyncIterator[bytes]:
        first = form.first()
        ready = b"" if first is None else event(first)  # it goes out together with the first part
        try:
            async for part in run.parts():
                visit.written = part.tokens
                ready += event(form.piece(part.text, part.finish))
                if part.finish is None:  # the last part goes out together with the end
                    yield ready
                    ready = b""
        except Exception as error:  # noqa: BLE001  # the status is sent already, so an event says it
            found = visit.told(error)
            state["status"] = found.status
            yield ready + event(found.document())
            return
        if form.order.has_usage:
            ready += event(form.usage(visit.written))
        state["status"] = 200
        yield ready + DONE

    def over() -> None:
        run.stop()
        visit.ended(state["status"])

    headers = {**visit.headers, "cache-control": "no-cache"}
    found = EndingStream(events(), media_type="text/event-stream", headers=headers)
    found.over = over
    return found
