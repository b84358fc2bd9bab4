"""What goes wrong, in OpenAI's words: a status, a type, a code, and never a traceback or a path of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ual_registry.errors import BaseMismatchError, RegistryUnavailableError, RouteError, UALError

__all__ = ["ClientGoneError", "HttpError", "explain", "unknown_model"]

_TYPES = {429: "rate_limit_error", 500: "server_error", 502: "server_error", 503: "server_error"}
_LONGEST_NAME = 100
_ROUTE_CODES = {
    "too-long": "context_length_exceeded",
    "refused": "refused",
    "queries": "invalid_value",
    "generation": "invalid_value",
    "no-chat-template": "no_chat_template",
}
"""What is wrong with a request, by the code of its error; every other error is the server's own."""


class ClientGoneError(Exception):
    """The client went away; nobody waits for an answer."""


class HttpError(Exception):
    """An answer that is an error.

    Args:
        status: The HTTP status.
        kind: OpenAI's code of the error, or one of the same form.
        message: What is wrong, expected and got.
        param: The field of the request.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.param = status, kind, message, param
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """Return the error as OpenAI's clients read it."""
        type_ = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": type_, "param": self.param, "code": self.kind}}


def unknown_model(name: str) -> HttpError:
    """Return the error of a model that is not here."""
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    return HttpError(404, "model_not_found", f"the model {shown!r} does not exist", param="model")


def explain(error: Exception) -> HttpError:
    """Return what a client is told of an error; what is the server's own fault is told without detail."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, BaseMismatchError):
        return HttpError(400, "other_base_model", error.message, param="model")
    if isinstance(error, RouteError) and error.problem_code in _ROUTE_CODES:
        return HttpError(400, _ROUTE_CODES[error.problem_code], error.message)
    if isinstance(error, RegistryUnavailableError):
        return HttpError(503, "registry_unavailable", "the registry cannot be used now", headers={"Retry-After": "5"})
    if isinstance(error, UALError):
        kind = error.problem_code.replace("-", "_")
        return HttpError(500, kind, "the answer cannot be generated; the server's log says more")
    return HttpError(500, "internal", "internal error; the server's log says more")
