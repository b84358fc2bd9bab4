"""Whatever the Hub's client raises becomes one error of ours that says what to do, and gives no secret away."""

from __future__ import annotations

import errno
import importlib
import json
import re
from typing import Any

import httpx2
import pytest
from huggingface_hub import errors as hf

from ual_registry.errors import HubConflictError, HubError, StorageError, UALError
from ual_registry.hub.answers import cleaned, told_wait_s
from ual_registry.hub.faults import translated

TOKEN = "hf_abcdefghijklmnop"
URL = f"https://hub.example/api/models/org/name?Signature=secret&token={TOKEN}"
SHOWN = "https://hub.example/api/models/org/name"
PLACE = "hf:org/name@v1:a.air"
CONTEXT = {"repository": "org/name", "revision": "v1", "path": "a.air"}
LOGIN = "log in by 'hf auth login', or set HF_TOKEN"
NETWORK = "check the network, and HF_ENDPOINT and the proxy where they are set"
A_HUB = "check HF_ENDPOINT; is it a Hub?"


def translation(error: BaseException, *, what: str = "read") -> UALError:
    with (
        pytest.raises(UALError) as caught,
        translated(what, "org/name", revision="v1", path="a.air", endpoint="https://hub.example"),
    ):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


def told(error: UALError) -> tuple[str, str, str | None]:
    return error.problem_code, error.message.removeprefix(f"cannot read {PLACE}: "), error.hint


def response(status: int, headers: dict[str, str] | None = None, *, known: bool = False) -> httpx2.Response:
    sent = {"authorization": f"Bearer {TOKEN}"} if known else {}
    return httpx2.Response(status, headers=headers, request=httpx2.Request("GET", URL, headers=sent))


def answer(
    status: int,
    code: str = "",
    *,
    words: str | None = None,
    known: bool = False,
    kind: type[hf.HfHubHTTPError] = hf.HfHubHTTPError,
    **headers: str,
) -> hf.HfHubHTTPError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    got = response(status, {"X-Error-Code": code, **named} if code else named, known=known)
    return kind(f"{status} Client Error for url {URL}", response=got, server_message=words)


NO_REPOSITORY = "there is no such repository, or it is private"
NO_REVISION = "name a branch, a tag or a full commit; the repository's page lists them"
NO_FILE = "the repository's page lists its files"
ASK = "open https://hub.example/org/name and ask for access"
NOT_GRANTED = "access must be asked for, and yours is not granted"
RIGHTS = "your token needs the right to do this; see https://huggingface.co/settings/tokens"
CHANGED = "it changed since it was read, or exists already"
ANONYMOUS = f"check the name; where it is private, {LOGIN}"

ANSWERS = {
    "no repository": (
        answer(401, "RepoNotFound", kind=hf.RepositoryNotFoundError),
        ("hub-not-found", NO_REPOSITORY, ANONYMOUS),
    ),
    "no repository for this token": (
        answer(404, "RepoNotFound", known=True),
        ("hub-not-found", NO_REPOSITORY, "check the name; where it is private, your token must have access to it"),
    ),
    "no page at all": (
        answer(404),
        (
            "hub-no-file",
            "its storage does not hold a.air",
            "try again later; where it stays so, tell whoever owns the repository",
        ),
    ),
    "no revision": (
        answer(404, "RevisionNotFound", kind=hf.RevisionNotFoundError),
        ("hub-no-revision", "it has no revision v1", NO_REVISION),
    ),
    "no file": (
        answer(404, "EntryNotFound", kind=hf.RemoteEntryNotFoundError),
        ("hub-no-file", "it has no file a.air", NO_FILE),
    ),
    "gated": (
        answer(401, "GatedRepo", kind=hf.GatedRepoError),
        ("hub-gated", NOT_GRANTED, f"{ASK}, then {LOGIN}"),
    ),
    "gated for this token": (
        answer(403, "GatedRepo", known=True, kind=hf.GatedRepoError),
        ("hub-gated", NOT_GRANTED, ASK),
    ),
    "disabled": (
        answer(403, words="Access to this resource is disabled.", known=True, kind=hf.DisabledRepoError),
        ("hub-disabled", "its owner or the Hub has disabled it", None),
    ),
    "a token that is not accepted": (
        answer(401, words="Invalid credentials in Authorization header", known=True),
        ("hub-token", "the Hub does not accept the token", f"it may be mistyped, expired or revoked; {LOGIN} anew"),
    ),
    "no token": (answer(401, words="Invalid username or password."), ("hub-token", "the Hub asks for a token", LOGIN)),
    "forbidden": (
        answer(403, words="This token only\nallows to read.", known=True),
        ("hub-access", "the Hub forbids it: This token only allows to read.", RIGHTS),
    ),
    "forbidden for strangers": (answer(403), ("hub-access", "the Hub forbids it", LOGIN)),
    "a conflict": (
        answer(412, words="A commit has happened since.", known=True),
        ("hub-conflict", f"{CHANGED}: A commit has happened since.", "read it again and retry"),
    ),
    "a name in use": (answer(409, known=True), ("hub-conflict", CHANGED, "read it again and retry")),
    "too many requests": (
        answer(429, known=True, ratelimit='"api";r=0;t=55'),
        ("hub-rate-limit", "too many requests", "try again in 55 s"),
    ),
    "too many requests, told otherwise": (
        answer(429, known=True, retry_after="7"),
        ("hub-rate-limit", "too many requests", "try again in 7 s"),
    ),
    "too many requests of strangers": (
        answer(429),
        ("hub-rate-limit", "too many requests", f"try again later; {LOGIN}, which allows more requests"),
    ),
    "not now": (answer(503, words="Down"), ("hub-unavailable", "the Hub answered 503: Down", "try again later")),
    "not now, but soon": (
        answer(502, retry_after="3"),
        ("hub-unavailable", "the Hub answered 502", "try again in 3 s"),
    ),
    "a refusal": (
        answer(400, words="Bad <body>", kind=hf.BadRequestError),
        ("hub-answer", "the Hub answered 400: Bad <body>", None),
    ),
    "a teapot": (answer(418), ("hub-answer", "the Hub answered 418", None)),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_becomes_an_error_that_says_what_to_do(case: str) -> None:
    error, expected = ANSWERS[case]
    found = translation(error)
    assert isinstance(found, HubError)
    assert told(found) == expected
    assert found.exit_code == 9


def test_a_wait_stands_in_the_context_of_the_error() -> None:
    found = translation(answer(429, retry_after="7"))
    assert found.context == {**CONTEXT, "status": 429, "wait_s": 7}
    assert translation(answer(503)).context == {**CONTEXT, "status": 503, "wait_s": None}
    assert translation(answer(404, "EntryNotFound")).context == CONTEXT


REQUEST = httpx2.Request("GET", URL)
TIMED_OUT = f"try again; {NETWORK}; HF_HUB_DOWNLOAD_TIMEOUT gives more seconds"
CUT = "the connection ended too soon"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def xet_error(name: str) -> Exception:
    kind: type[Exception] = getattr(importlib.import_module("hf_xet"), name)
    return kind("no")


OTHERS = {
    "offline": (
        hf.OfflineModeIsEnabled(URL),
        ("hub-offline", "offline mode is on", "unset HF_HUB_OFFLINE; what was pulled is in the registry"),
    ),
    "no token stored": (hf.LocalTokenNotFoundError("x"), ("hub-token", "there is no usable token", LOGIN)),
    "no token by OIDC": (hf.OIDCError("x"), ("hub-token", "there is no usable token", LOGIN)),
    "no connection": (
        httpx2.ConnectError("[Errno 111] Connection refused", request=REQUEST),
        ("hub-unavailable", "no connection ([Errno 111] Connection refused)", NETWORK),
    ),
    "no proxy": (httpx2.ProxyError("407", request=REQUEST), ("hub-unavailable", "the proxy refuses (407)", NETWORK)),
    "connect time-out": (httpx2.ConnectTimeout("x", request=REQUEST), ("hub-timeout", "no answer in time", TIMED_OUT)),
    "read time-out": (httpx2.ReadTimeout("x", request=REQUEST), ("hub-timeout", "no answer in time", TIMED_OUT)),
    "reset": (
        httpx2.ReadError("[Errno 104] Connection reset by peer", request=REQUEST),
        ("hub-unavailable", f"{CUT} ([Errno 104] Connection reset by peer)", NETWORK),
    ),
    "cut": (httpx2.RemoteProtocolError("", request=REQUEST), ("hub-unavailable", CUT, NETWORK)),
    "no URL": (
        httpx2.UnsupportedProtocol("Request URL is missing a protocol."),
        ("hub-unavailable", "its address is wrong: Request URL is missing a protocol.", "check HF_ENDPOINT"),
    ),
    "a circle": (
        httpx2.TooManyRedirects(f"Exceeded 20 redirects while resolving '{URL}'."),
        (
            "hub-answer",
            f"the answer is not understood (TooManyRedirects: Exceeded 20 redirects while resolving '{SHOWN}'.)",
            A_HUB,
        ),
    ),
    "no such encoding": (
        httpx2.DecodingError("bad gzip", request=REQUEST),
        ("hub-answer", "the answer is not understood (DecodingError: bad gzip)", A_HUB),
    ),
    "a HEAD that failed": (
        caused(hf.LocalEntryNotFoundError("An error happened"), answer(503)),
        ("hub-unavailable", "the Hub answered 503", "try again later"),
    ),
    "a forced HEAD that failed": (
        caused(ValueError("Force download failed due to the above error."), httpx2.ReadTimeout("x", request=REQUEST)),
        ("hub-timeout", "no answer in time", TIMED_OUT),
    ),
    "headers that are missing": (
        hf.FileMetadataError("no ETag"),
        ("hub-answer", "the answer is not understood (FileMetadataError: no ETag)", A_HUB),
    ),
    "a name that is none": (
        hf.HFValidationError("Repo id must be"),
        ("hub-answer", "the answer is not understood (HFValidationError: Repo id must be)", A_HUB),
    ),
    "another length": (
        OSError("Consistency check failed: file should be of size 5 but has size 4 (a.air)."),
        ("hub-content", "the length of what came is wrong", "try again; the network may have cut it"),
    ),
    "a plain time-out": (
        TimeoutError("timed out"),
        ("hub-timeout", "no answer in time", TIMED_OUT),
    ),
    "a plain reset": (
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        ("hub-unavailable", "it cannot be reached ([Errno 104] Connection reset by peer)", NETWORK),
    ),
    "Xet says no": (
        xet_error("XetAuthenticationError"),
        ("hub-token", "the Xet store does not accept the token (no)", "try again"),
    ),
    "Xet has it not": (
        xet_error("XetObjectNotFoundError"),
        ("hub-no-file", "the Xet store does not hold it (no)", "try again"),
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_else_the_client_raises_becomes_an_error_too(case: str) -> None:
    error, expected = OTHERS[case]
    assert told(translation(error)) == expected


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("Task error: IO Error: File too large (os error 27)"),
    ],
)
def test_a_full_disk_is_the_file_systems_error(error: Exception) -> None:
    found = translation(error)
    assert isinstance(found, StorageError)
    assert told(found) == ("storage", "no space left on the disk", "free some space, and try again")


def test_a_folder_that_may_not_be_written_is_the_file_systems_error() -> None:
    found = translation(PermissionError(errno.EACCES, "Permission denied", "/data/a.air"))
    assert (type(found), found.message, found.hint) == (
        StorageError,
        "cannot use /data/a.air: Permission denied",
        "check the permissions of the file and its folder",
    )


@pytest.mark.parametrize("error", [RuntimeError("own"), KeyError("own"), ValueError("own"), AssertionError("own")])
def test_a_mistake_of_the_code_in_between_is_not_covered_up(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated("read", "org/name"):
        raise error
    assert caught.value is error


def test_an_error_of_ours_goes_through_as_it_is() -> None:
    own = HubConflictError("mine")
    with pytest.raises(HubConflictError) as caught, translated("read", "org/name"):
        raise own
    assert caught.value is own


def test_a_stop_of_the_user_goes_through() -> None:
    with pytest.raises(KeyboardInterrupt), translated("read", "org/name"):
        raise KeyboardInterrupt


def test_an_answer_that_the_client_chokes_on_is_not_understood() -> None:
    from huggingface_hub.hf_api import ModelInfo

    made: Any = ModelInfo
    for data in ({}, {"id": "a/b", "siblings": [{"lfs": {}}]}, {"id": "a/b", "inferenceProviderMapping": 3}):
        with pytest.raises(HubError) as caught, translated("read", "org/name"):
            made(**data)
        assert caught.value.problem_code == "hub-answer"


def raised_inside_the_client(error: Exception) -> UALError:
    inside: dict[str, Any] = {"__name__": "huggingface_hub.own", "error": error}
    exec("def fail():\n    raise error", inside)
    with pytest.raises(UALError) as caught, translated("read", "org/name", revision="v1", path="a.air"):
        inside["fail"]()
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RuntimeError("Network error: HTTP status client error (403 Forbidden)"),
            ("hub-access", "the Hub forbids it: Network error: HTTP status client error (403 Forbidden)", RIGHTS),
        ),
        (
            RuntimeError("Data processing error: chunk hash mismatch"),
            ("hub-unavailable", "it cannot be reached (Data processing error: chunk hash mismatch)", NETWORK),
        ),
        (RuntimeError(), ("hub-unavailable", "it cannot be reached", NETWORK)),
        (
            ConnectionError("Network error: HTTP status client error (403 Forbidden), domain: http://x"),
            (
                "hub-access",
                "the Hub forbids it: Network error: HTTP status client error (403 Forbidden), domain: http://x",
                RIGHTS,
            ),
        ),
        (
            ConnectionError("Rate limited: Request error: HTTP status client error (429 Too Many Requests)"),
            ("hub-rate-limit", "too many requests", "try again later"),
        ),
        (
            ConnectionError("Server error: error sending request"),
            ("hub-unavailable", "it cannot be reached (Server error: error sending request)", NETWORK),
        ),
        (
            KeyError("lfs"),
            ("hub-answer", "the answer is not understood (KeyError: 'lfs')", A_HUB),
        ),
    ],
)
def test_what_the_client_raises_of_a_plain_kind_becomes_an_error_too(
    error: Exception, expected: tuple[str, str, str | None]
) -> None:
    assert told(raised_inside_the_client(error)) == expected


@pytest.mark.parametrize("offline", [True, False])
def test_a_file_that_is_not_on_the_disk_either_is_told_by_why(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    code, message, _ = told(translation(hf.LocalEntryNotFoundError("Cannot find it")))
    assert (code, message) == (
        ("hub-offline", "offline mode is on")
        if offline
        else ("hub-unavailable", "it cannot be reached (Cannot find it)")
    )


def test_nothing_secret_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    wicked = f"no\x1b[31m access\r\nwith Bearer {TOKEN} or {TOKEN} at {URL} " + "x" * 5000
    errors: list[Exception] = [
        answer(status, words=wicked, known=True) for status in (400, 401, 403, 404, 409, 412, 429, 503)
    ]
    errors += [kind(wicked, request=REQUEST) for kind in (httpx2.ReadError, httpx2.ConnectError, httpx2.DecodingError)]
    errors += [TimeoutError(wicked), hf.FileMetadataError(wicked), hf.HFValidationError(wicked), OSError(wicked)]
    for error in errors:
        found = translation(error)
        text = json.dumps([found.message, found.hint, found.context, str(found)])
        assert TOKEN not in text
        assert "Signature" not in text
        assert found.message.isprintable()
        assert len(found.message) < 400
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ""),
        (" a \n\t b\u2028c ", "a b c"),
        ("x" * 300, "x" * 197 + "..."),
        (f"token {TOKEN}!", "token ***!"),
        ("Authorization: Bearer abc.def-123=", "Authorization: ***"),
        ("see https://cdn.example/a?sig=1#b and http://x/y", "see https://cdn.example/a and http://x/y"),
        ("'http://127.0.0.1:80/a?x=1'", "'http://127.0.0.1:80/a'"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
def test_a_servers_words_are_made_fit_for_one_line(words: str, expected: str) -> None:
    assert cleaned(words) == expected


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, {"ratelimit": '"api";r=0;t=55'}, 55),
        (429, {"ratelimit": '"api"; r=0; t=55', "retry-after": "9"}, 55),
        (429, {"ratelimit": '"api";r=3;t=55'}, None),
        (429, {"ratelimit": '"api";r=3;t=55', "retry-after": "9"}, 9),
        (503, {"ratelimit": '"api";r=0;t=55'}, None),
        (503, {"retry-after": " 2 "}, 2),
        (429, {"retry-after": "-2"}, None),
        (429, {"retry-after": "9" * 30}, None),
        (429, {"retry-after": "soon"}, None),
        (429, {"ratelimit": "r=0;t=x"}, None),
        (429, {}, None),
    ],
)
def test_a_wait_is_read_as_the_hub_tells_it(status: int, headers: dict[str, str], expected: int | None) -> None:
    assert told_wait_s(status, headers) == expected


def test_every_message_names_the_place() -> None:
    assert translation(answer(404, "RepoNotFound"), what="push to").message == (
        f"cannot push to {PLACE}: {NO_REPOSITORY}"
    )
    with pytest.raises(UALError) as caught, translated("list", ""):
        raise answer(503)
    assert caught.value.message == "cannot list the Hub: the Hub answered 503"
    assert re.fullmatch(r"[ -~]*", caught.value.message)
