"""What an answer of the Hub means that is no success: one error for each thing that a user can do about it.

Only the status, a few headers and the server's own words are looked at; no HTTP library is needed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ual_registry.errors import HubAccessError, HubConflictError, HubError, HubNotFoundError, HubUnavailableError
from ual_registry.hub.address import HubAddress
from ual_registry.hub.told import Told

__all__ = ["Answer", "Question", "answer_fault", "cleaned", "told_wait_s"]

_MAX_WORDS = 200
_LOGIN = "log in by 'hf auth login', or set HF_TOKEN"
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s?#'\"<>]*)[?#][^\s'\"<>]*")
_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{4,}|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{4,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked of the Hub.

    Attributes:
        what: What shall be done, as in "cannot WHAT hf:owner/name": "read", "list", "push to".
        repository: The id of a repository, or empty where none is meant.
        revision: The revision that was asked for.
        path: The file that was asked for.
        endpoint: The Hub's address, where known.
    """

    what: str
    repository: str
    revision: str | None = None
    path: str | None = None
    endpoint: str | None = None

    @property
    def place(self) -> str:
        """The place in the form of an address."""
        return str(HubAddress(self.repository, self.revision, self.path)) if self.repository else "the Hub"

    @property
    def context(self) -> dict[str, object]:
        """The place in machine-readable form."""
        named = {"repository": self.repository, "revision": self.revision, "path": self.path}
        return {name: value for name, value in named.items() if value}

    def fault(
        self,
        kind: type[HubError],
        *,
        code: str,
        reason: str,
        hint: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> HubError:
        """Make an error about this place."""
        message = f"cannot {self.what} {self.place}: {reason}"
        return kind(message, context={**self.context, **(context or {})}, code=code, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of the Hub that is no success.

    Attributes:
        status: The HTTP status.
        headers: The headers, names in lower case.
        words: What the server says about it.
        is_known: Whether a token was sent along.
    """

    status: int
    headers: Mapping[str, str]
    words: str = ""
    is_known: bool = False

    @property
    def error_code(self) -> str:
        """What the Hub calls the error."""
        return self.headers.get("x-error-code", "")


def cleaned(words: str) -> str:
    r"""Make a server's words fit for a message: one short line without tokens, signatures or control characters.

    >>> cleaned("No\n access\x1b[0m to https://cdn/x?Signature=abc")
    'No access [0m to https://cdn/x'
    """
    plain = "".join(char if char.isprintable() else " " for char in words[: 20 * _MAX_WORDS])
    line = _TOKEN.sub("***", _ADDRESS.sub(r"\1", " ".join(plain.split())))
    return line if len(line) <= _MAX_WORDS else f"{line[: _MAX_WORDS - 3]}..."


def told_wait_s(status: int, headers: Mapping[str, str]) -> int | None:
    """Return how many seconds the server asks to wait, where it does.

    Args:
        status: The HTTP status; the rate limit stands on every answer, and is a reason to wait with 429 only.
        headers: The headers, names in lower case.

    >>> told_wait_s(429, {"ratelimit": '"api";r=0;t=55'}), told_wait_s(503, {"retry-after": "3"})
    (55, 3)
    """
    told = Told.read(headers)
    if status == 429 and told.reset_s is not None and told.remaining == 0:
        return told.reset_s
    return None if told.retry_after_s is None else math.ceil(told.retry_after_s)


def answer_fault(answer: Answer, question: Question) -> HubError:
    """Say what an answer means."""
    by_code = _BY_CODE.get(answer.error_code)
    if by_code is not None:
        return by_code(answer, question)
    if "access to this resource is disabled" in answer.words.lower():
        return question.fault(HubAccessError, code="hub-disabled", reason="its owner or the Hub has disabled it")
    if answer.status in _BY_STATUS:
        return _BY_STATUS[answer.status](answer, question)
    if answer.status in (408, 500, 502, 503, 504):
        return _unavailable(answer, question)
    return question.fault(HubError, code="hub-answer", reason=_said(answer), context={"status": answer.status})


def _said(answer: Answer) -> str:
    words = cleaned(answer.words)
    return f"the Hub answered {answer.status}" + (f": {words}" if words else "")


def _no_repository(answer: Answer, question: Question) -> HubError:
    if not question.repository:
        return question.fault(HubNotFoundError, code="hub-not-found", reason=_said(answer), hint="check HF_ENDPOINT")
    hint = (
        "check the name; where it is private, your token must have access to it"
        if answer.is_known
        else f"check the name; where it is private, {_LOGIN}"
    )
    return question.fault(
        HubNotFoundError, code="hub-not-found", reason="there is no such repository, or it is private", hint=hint
    )


def _no_revision(answer: Answer, question: Question) -> HubError:
    del answer
    name = f" {question.revision}" if question.revision else ""
    return question.fault(
        HubNotFoundError,
        code="hub-no-revision",
        reason=f"it has no revision{name}",
        hint="name a branch, a tag or a full commit; the repository's page lists them",
    )


def _no_file(answer: Answer, question: Question) -> HubError:
    del answer
    name = f" {question.path}" if question.path else ""
    return question.fault(
        HubNotFoundError,
        code="hub-no-file",
        reason=f"it has no file{name}",
        hint="the repository's page lists its files",
    )


def _not_there(answer: Answer, question: Question) -> HubError:
    """Tell a file that its storage does not hold, which knows no codes, from a repository that is not there."""
    if question.path is None:
        return _no_repository(answer, question)
    return question.fault(
        HubNotFoundError,
        code="hub-no-file",
        reason=f"its storage does not hold {question.path}",
        hint="try again later; where it stays so, tell whoever owns the repository",
    )


def _gated(answer: Answer, question: Question) -> HubError:
    page = f"{question.endpoint or 'https://huggingface.co'}/{question.repository}"
    then = "" if answer.is_known else f", then {_LOGIN}"
    return question.fault(
        HubAccessError,
        code="hub-gated",
        reason="access must be asked for, and yours is not granted",
        hint=f"open {page} and ask for access{then}",
    )


def _token(answer: Answer, question: Question) -> HubError:
    if answer.is_known:
        reason, hint = "the Hub does not accept the token", f"it may be mistyped, expired or revoked; {_LOGIN} anew"
    else:
        reason, hint = "the Hub asks for a token", _LOGIN
    return question.fault(HubAccessError, code="hub-token", reason=reason, hint=hint)


def _forbidden(answer: Answer, question: Question) -> HubError:
    words = cleaned(answer.words)
    hint = "your token needs the right to do this; see https://huggingface.co/settings/tokens"
    return question.fault(
        HubAccessError,
        code="hub-access",
        reason="the Hub forbids it" + (f": {words}" if words else ""),
        hint=hint if answer.is_known else _LOGIN,
    )


def _conflict(answer: Answer, question: Question) -> HubError:
    words = cleaned(answer.words)
    return question.fault(
        HubConflictError,
        code="hub-conflict",
        reason="it changed since it was read, or exists already" + (f": {words}" if words else ""),
        hint="read it again and retry",
        context={"status": answer.status},
    )


def _rate_limit(answer: Answer, question: Question) -> HubError:
    wait_s = told_wait_s(answer.status, answer.headers)
    again = "try again later" if wait_s is None else f"try again in {wait_s} s"
    return question.fault(
        HubUnavailableError,
        code="hub-rate-limit",
        reason="too many requests",
        hint=again if answer.is_known else f"{again}; {_LOGIN}, which allows more requests",
        context={"status": answer.status, "wait_s": wait_s},
    )


def _unavailable(answer: Answer, question: Question) -> HubError:
    wait_s = told_wait_s(answer.status, answer.headers)
    return question.fault(
        HubUnavailableError,
        code="hub-unavailable",
        reason=_said(answer),
        hint="try again later" if wait_s is None else f"try again in {wait_s} s",
        context={"status": answer.status, "wait_s": wait_s},
    )


_BY_CODE = {
    "RepoNotFound": _no_repository,
    "RevisionNotFound": _no_revision,
    "EntryNotFound": _no_file,
    "GatedRepo": _gated,
}
"""What the Hub says in ``X-Error-Code``; it comes before the status, which is 401, 403 or 404 for one thing."""

_BY_STATUS = {
    401: _token,
    403: _forbidden,
    404: _not_there,
    409: _conflict,
    412: _conflict,
    429: _rate_limit,
}
