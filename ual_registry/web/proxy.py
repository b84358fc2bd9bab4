"""A proxy before a server of many adapters: it routes, says which model answers, and hands everything else through."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ual_registry.dispatch.answer import BASE, REFUSE, refusal
from ual_registry.dispatch.decision import Decision, Reason
from ual_registry.web.answers import event, model_document
from ual_registry.web.engine import AUTO, ServedModel
from ual_registry.web.failure import HttpError, unknown_model
from ual_registry.web.frame import CLIENT_GONE, EndingAnswer, EndingStream, Visit, framed
from ual_registry.web.gate import Gate
from ual_registry.web.limits import Limits, read_document
from ual_registry.web.metrics import Metrics
from ual_registry.web.presence import Presence
from ual_registry.web.questions import query_of
from ual_registry.web.upstream import Supply, Upstream

__all__ = ["Chooser", "make_proxy"]

_PASSED_ON = ("authorization", "accept", "user-agent")
_PASSED_BACK = ("content-type", "retry-after", "cache-control")


class Chooser(Protocol):
    """Chooses adapters; threads share it."""

    def route(self, query: str) -> Decision:
        """Say which adapter answers a query now.

        Raises:
            UALError: The query cannot be routed.
        """
        ...

    def digest(self, reference: str) -> str | None:
        """Return the digest of an adapter that a client named; ``None`` where it is none of the registry."""
        ...

    def log(self, query: str, decision: Decision, answered_by: str) -> None:
        """Log what became of a query.

        Raises:
            UALError: The log cannot be written.
        """
        ...

    def models(self) -> list[ServedModel]:
        """Return the adapters that a client can name."""
        ...

    def model(self, name: str) -> ServedModel | None:
        """Return the adapter that a client named."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...


def make_proxy(chooser: Chooser, upstream: Upstream, limits: Limits | None = None, *, fallback: str = BASE) -> FastAPI:
    """Return the proxy.

    Args:
        chooser: Chooses adapters.
        upstream: The server behind.
        limits: How much the proxy takes on.
        fallback: What answers where no adapter does: ``base``, ``refuse``, or the name of a model.
    """
    desk = _Desk(chooser, upstream, limits or Limits(), fallback)
    app = framed(desk.gate, desk.metrics, desk.close)
    app.add_route("/v1/models", desk.models)
    app.add_route("/v1/models/{name:path}", desk.model)
    for endpoint, path in (("chat", "/v1/chat/completions"), ("completions", "/v1/completions")):
        app.add_route(path, partial(desk.answer, endpoint=endpoint, path=path), methods=["POST"])
    return app


class _Desk:
    """Hands the requests of one proxy through."""

    def __init__(self, chooser: Chooser, upstream: Upstream, limits: Limits, fallback: str) -> None:
        self._chooser, self._upstream, self._limits, self._fallback = chooser, upstream, limits, fallback
        self.gate = Gate(running=limits.max_running, waiting=limits.max_waiting)
        self.metrics = Metrics(self.gate)

    async def close(self) -> None:
        """Close the connections to the server behind."""
        await self._upstream.close()
        self._chooser.close()

    async def models(self, request: Request) -> Response:
        """List ``auto``, the adapters that can be brought, and what the server behind lists."""
        visit = self._visit("models")
        try:
            listed = await self._upstream.models(_passed_on(request))
            brings = self._upstream.supply is not Supply.NONE
            own = await asyncio.to_thread(self._chooser.models) if brings else []
            documents = [model_document(model) for model in (ServedModel(id=AUTO), *own)]
        except Exception as error:  # noqa: BLE001  # told as OpenAI tells it
            return visit.failed(error)
        visit.ended(200)
        return JSONResponse({"object": "list", "data": [*documents, *listed]})

    async def model(self, request: Request) -> Response:
        """Show ``auto``, an adapter that can be brought, or what the server behind lists under a name."""
        visit, name = self._visit("models"), request.path_params["name"]
        try:
            found = await self._model(name, request)
        except Exception as error:  # noqa: BLE001  # told as OpenAI tells it
            return visit.failed(error)
        visit.ended(200)
        return JSONResponse(found)

    async def _model(self, name: str, request: Request) -> dict[str, Any]:
        own = ServedModel(id=AUTO) if name == AUTO else None
        if own is None and self._upstream.supply is not Supply.NONE:
            own = await asyncio.to_thread(self._chooser.model, name)
        if own is not None:
            return model_document(own)
        listed = await self._upstream.models(_passed_on(request))
        found = next((model for model in listed if model["id"] == name), None)
        if found is None:
            raise unknown_model(name)
        return found

    async def answer(self, request: Request, *, endpoint: str, path: str) -> Response:
        """Hand a question through."""
        visit = self._visit(endpoint)
        try:
            body = await read_document(request, self._limits)
            async with Presence(request.receive):
                since = await self.gate.enter()
            leave = _once(partial(self.gate.leave, since))
        except Exception as error:  # noqa: BLE001  # told as OpenAI tells it
            return visit.failed(error)
        try:
            async with Presence(request.receive):
                answer = await self._asked(request, body, path, visit)
        except Exception as error:  # noqa: BLE001  # likewise
            leave()
            return visit.failed(error)
        except BaseException:
            leave()
            raise
        return _through(answer, visit, leave)

    async def _asked(self, request: Request, body: dict[str, Any], path: str, visit: Visit) -> httpx.Response:
        """Ask the server behind, and return its answer as it begins."""
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise HttpError(400, "missing_required_parameter", "model: expected a name, or auto", param="model")
        visit.facts["model"] = model
        decision, is_fallback = await asyncio.to_thread(self._decided, body, model, path)
        visit.decided(decision, is_fallback=is_fallback)
        for is_last in (False, True):
            name = await self._name(model, decision, is_fallback=is_fallback)
            answer = await self._sent(request, path, {**body, "model": name})
            if answer.status_code != 404 or not self._upstream.forget(name) or is_last:
                break
            await answer.aclose()  # it was started again since: the adapter is brought once more
        if not _is_stream(answer):
            await _read_whole(answer)
        visit.began(decision.adapter or name, is_fallback=is_fallback)
        return answer

    def _decided(self, body: Mapping[str, Any], model: str, path: str) -> tuple[Decision, bool]:
        """Return the decision about a question, logged, and whether the fallback answers; this runs in a thread."""
        if model != AUTO:
            brings = self._upstream.supply is not Supply.NONE
            digest = self._chooser.digest(model) if brings else None
            decision = Decision(reason=Reason.FORCED, domain=None, adapter=digest)
            with contextlib.suppress(HttpError):  # what holds no text is the affair of the server behind
                self._chooser.log(query_of(body, is_chat="chat" in path), decision, digest or model)
            return decision, False
        query = query_of(body, is_chat="chat" in path)
        decision = self._chooser.route(query)
        # The server behind has adapters by domain, whether or not the registry has them.
        is_known = decision.reason is Reason.NO_ADAPTER and self._upstream.supply is Supply.NONE
        is_fallback = not decision.is_routed and not is_known
        known = decision.adapter or self._upstream.model_of(decision.domain or "")
        self._chooser.log(query, decision, self._fallback if is_fallback else known)
        if is_fallback and self._fallback == REFUSE:
            raise refusal(query, decision)
        return decision, is_fallback

    async def _name(self, model: str, decision: Decision, *, is_fallback: bool) -> str:
        """Return what the server behind calls the model that answers."""
        if decision.reason is Reason.FORCED and decision.adapter is None:
            return model
        if is_fallback:
            return await self._upstream.base_name() if self._fallback == BASE else self._fallback
        return await self._upstream.name_of(decision.adapter, decision.domain)

    async def _sent(self, request: Request, path: str, body: Mapping[str, Any]) -> httpx.Response:
        client = self._upstream.client
        asked = client.build_request("POST", path, json=body, headers=_passed_on(request))
        try:
            return await client.send(asked, stream=True)
        except httpx.HTTPError as error:
            raise HttpError(502, "upstream_unreachable", "the server behind cannot be reached") from error

    def _visit(self, endpoint: str) -> Visit:
        return Visit(endpoint=endpoint, metrics=self.metrics, id=f"req_{secrets.token_hex(12)}")


def _is_stream(answer: httpx.Response) -> bool:
    kind: str = answer.headers.get("content-type", "")
    return kind.startswith("text/event-stream")


async def _read_whole(answer: httpx.Response) -> None:
    """Read an answer before its status is handed on, so that one that breaks off is no answer."""
    try:
        await answer.aread()
    except httpx.HTTPError as error:
        raise _broken() from error
    finally:
        await answer.aclose()


def _broken() -> HttpError:
    return HttpError(502, "upstream_broken", "the server behind ended too soon")


def _through(answer: httpx.Response, visit: Visit, leave: Callable[[], None]) -> Response:
    """Return the answer of the server behind, a stream as it comes; whoever goes away ends it there too."""
    state = {"status": CLIENT_GONE if _is_stream(answer) else answer.status_code}

    async def parts() -> AsyncIterator[bytes]:
        try:
            async for part in answer.aiter_bytes():
                yield part
            state["status"] = answer.status_code
        except httpx.HTTPError:  # the status is sent already, so an event says it
            state["status"] = 502
            yield event(visit.told(_broken()).document())
        finally:
            await answer.aclose()

    def over() -> None:
        leave()
        visit.ended(state["status"])

    passed = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
    headers = {**passed, **visit.headers}
    found: EndingAnswer | EndingStream
    if _is_stream(answer):
        found = EndingStream(parts(), status_code=answer.status_code, headers=headers)
    else:
        found = EndingAnswer(answer.content, status_code=answer.status_code, headers=headers)
    found.over = over
    return found


def _passed_on(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in _PASSED_ON if name in request.headers}


def _once(call: Callable[[], None]) -> Callable[[], None]:
    left = [call]

    def run() -> None:
        if left:
            left.pop()()

    return run
