"""Translating what the Hub's client raises into our own errors.

It raises errors of its own, of its HTTP library, of hf_xet, and plain ``OSError``, ``RuntimeError`` and ``ValueError``.
What is a fault of the code in between, and not of the client, goes through unchanged.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from ual_registry.errors import (
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubUnavailableError,
    StorageError,
    UALError,
)
from ual_registry.hub.answers import Answer, Question, answer_fault, cleaned
from ual_registry.hub.conduct import conducted

__all__ = ["translated"]

_CLIENT_ROOMS = {"huggingface_hub", "httpx2", "httpcore2", "hf_xet"}
_NETWORK = "check the network, and HF_ENDPOINT and the proxy where they are set"
_CUT = "the connection ended too soon"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OS_ERROR = re.compile(r"\(os error (\d{1,4})\)")
_STATUS = re.compile(r"\b(?:status|code|HTTP)\D{0,20}([45]\d\d)\b")


@contextlib.contextmanager
def translated(
    what: str, repository: str, *, revision: str | None = None, path: str | None = None, endpoint: str | None = None
) -> Iterator[None]:
    """Turn whatever the client raises in this block into a ``HubError``, or a ``StorageError`` for a full disk.

    Inside, the client waits no longer than is allowed, and sends a token to the Hub only; see ``hub.conduct``.

    Args:
        what: What is done, as in "cannot WHAT hf:owner/name": "read", "push to".
        repository: The repository that it is done to; empty where there is none.
        revision: The revision, where one was asked for.
        path: The file, where one was asked for.
        endpoint: The Hub's address, where it is not the usual one.

    Raises:
        HubError: The Hub, or the way to it, refused.
        StorageError: The file system did.
    """
    question = Question(what=what, repository=repository, revision=revision, path=path, endpoint=endpoint)
    with conducted(question):
        try:
            yield
        except UALError:
            raise
        except Exception as error:
            fault = _fault(error, question)
            if fault is None:
                raise
            raise fault from error


def _fault(error: BaseException, question: Question) -> UALError | None:
    """Say what an exception means; ``None`` where it is no business of the client's."""
    import httpx2  # noqa: PLC0415  # only where the Hub was used
    from huggingface_hub import errors  # noqa: PLC0415  # only where the Hub was used

    if isinstance(error, errors.HfHubHTTPError):
        return answer_fault(_answer(error), question)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return _offline(question)
    if isinstance(error, errors.LocalTokenNotFoundError | errors.OIDCError | errors.DeviceCodeError):
        hint = "log in by 'hf auth login', or set HF_TOKEN"
        return question.fault(HubAccessError, code="hub-token", reason="there is no usable token", hint=hint)
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | httpx2.StreamError):
        return _network_fault(error, question)
    cause = error.__cause__
    if isinstance(error, errors.EntryNotFoundError | ValueError) and cause is not None:
        return _fault(cause, question)  # the client wraps what a HEAD raised
    return _other_fault(error, question)


def _answer(error: Any) -> Answer:
    response = error.response
    headers = {name.lower(): value for name, value in response.headers.items()}
    words = error.server_message or headers.get("x-error-message", "")
    return Answer(
        status=response.status_code,
        headers=headers,
        words=words,
        is_known=any("authorization" in each.request.headers for each in (*response.history, response)),
    )


def _offline(question: Question) -> HubError:
    return question.fault(
        HubUnavailableError,
        code="hub-offline",
        reason="offline mode is on",
        hint="unset HF_HUB_OFFLINE; what was pulled is in the registry",
    )


def _network_fault(error: BaseException, question: Question) -> HubError:
    """Say what went wrong on the way."""
    import httpx2  # noqa: PLC0415  # only where the Hub was used

    if isinstance(error, httpx2.TimeoutException):
        return _timed_out(question)
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        reason = f"its address is wrong: {cleaned(str(error))}"
        return question.fault(HubUnavailableError, code="hub-unavailable", reason=reason, hint="check HF_ENDPOINT")
    if isinstance(error, httpx2.TransportError):
        kinds = ((httpx2.ConnectError, "no connection"), (httpx2.ProxyError, "the proxy refuses"))
        met = (error, error.__cause__)  # what ``hub.conduct`` raises stands for its cause
        reason = next((said for kind, said in kinds if any(isinstance(each, kind) for each in met)), _CUT)
        words = cleaned(str(error))
        said = f"{reason} ({words})" if words else reason
        return question.fault(HubUnavailableError, code="hub-unavailable", reason=said, hint=_NETWORK)
    return _not_understood(error, question)


def _timed_out(question: Question) -> HubError:
    hint = f"try again; {_NETWORK}; HF_HUB_DOWNLOAD_TIMEOUT gives more seconds"
    return question.fault(HubUnavailableError, code="hub-timeout", reason="no answer in time", hint=hint)


def _not_understood(error: BaseException, question: Question) -> HubError:
    words = cleaned(str(error))
    reason = f"the answer is not understood ({type(error).__name__}{': ' if words else ''}{words})"
    return question.fault(HubError, code="hub-answer", reason=reason, hint="check HF_ENDPOINT; is it a Hub?")


def _other_fault(error: BaseException, question: Question) -> UALError | None:
    """Say what an exception means that is of no HTTP library."""
    from huggingface_hub import errors  # noqa: PLC0415  # only where the Hub was used

    fault: UALError | None = None
    if type(error).__name__ in _XET:
        make, code, reason = _XET[type(error).__name__]
        fault = question.fault(make, code=code, reason=f"{reason} ({cleaned(str(error))})", hint="try again")
    elif _is_full(error):
        message = f"cannot {question.what} {question.place}: no space left on the disk"
        fault = StorageError(message, context=question.context, hint="free some space, and try again")
    elif isinstance(error, errors.LocalEntryNotFoundError):
        fault = _offline(question) if _is_offline() else _unreached(error, question)
    elif isinstance(error, errors.FileMetadataError | errors.HFValidationError):
        fault = _not_understood(error, question)
    elif isinstance(error, OSError):
        fault = _os_fault(error, question)
    elif _comes_from_client(error):
        fault = _client_fault(error, question)
    return fault


_XET: dict[str, tuple[type[HubError], str, str]] = {
    "XetAuthenticationError": (HubAccessError, "hub-token", "the Xet store does not accept the token"),
    "XetObjectNotFoundError": (HubNotFoundError, "hub-no-file", "the Xet store does not hold it"),
}


def _os_fault(error: OSError, question: Question) -> UALError:
    """Tell the file system from the network and from the client's own words."""
    if isinstance(error, TimeoutError):
        return _timed_out(question)
    if isinstance(error, ConnectionError):
        return _client_fault(error, question)
    if error.errno is not None and (error.filename is not None or isinstance(error, PermissionError)):
        return StorageError.of("use", error.filename or "a file", error)
    if "consistency check failed" in str(error).lower():
        reason = "the length of what came is wrong"
        return question.fault(
            HubError, code="hub-content", reason=reason, hint="try again; the network may have cut it"
        )
    return _unreached(error, question)


def _client_fault(error: BaseException, question: Question) -> HubError:
    """Say what an exception of a plain kind means that the client, or hf_xet, raised."""
    words = cleaned(str(error))
    status = _STATUS.search(words)
    is_of_the_wire = isinstance(error, RuntimeError | ConnectionError)  # hf_xet's, on the way down and up
    if is_of_the_wire and status:
        answer = Answer(status=int(status[1]), headers={}, words=words, is_known=True)
        return answer_fault(answer, question)
    if is_of_the_wire:
        return _unreached(error, question)
    return _not_understood(error, question)


def _unreached(error: BaseException, question: Question) -> HubError:
    words = cleaned(str(error))
    reason = f"it cannot be reached ({words})" if words else "it cannot be reached"
    return question.fault(HubUnavailableError, code="hub-unavailable", reason=reason, hint=_NETWORK)


def _is_full(error: BaseException) -> bool:
    native = _OS_ERROR.search(str(error))  # hf_xet tells a number in its words only
    number = error.errno if isinstance(error, OSError) else None
    return number in _FULL or (native is not None and int(native[1]) in _FULL)


def _is_offline() -> bool:
    from huggingface_hub import constants  # noqa: PLC0415  # only where the Hub was used

    return bool(constants.is_offline_mode())


def _comes_from_client(error: BaseException) -> bool:
    """Tell whether an exception was raised inside the client, or by what it called, and not by our own code.

    hf_xet is no Python, so that what it raises seems to be of the module that calls it.
    """
    module, room = "", ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        top = name.partition(".")[0]
        module, room = (name, top) if top in _CLIENT_ROOMS or top == "ual_registry" else (module, room)
        trace = trace.tb_next
    return room in _CLIENT_ROOMS or (module == "ual_registry.hub.xet" and isinstance(error, RuntimeError))
