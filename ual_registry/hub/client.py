"""Reading from the Hub: which commit a name means, what it holds, and small parts of it.

Tokens come from huggingface_hub alone (``HF_TOKEN``, ``hf auth login``) and go to the Hub alone.
Every call has a time limit: ``HF_HUB_DOWNLOAD_TIMEOUT`` seconds of silence, and a bounded number of tries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from ual_registry.errors import HubError, HubUnavailableError, StorageError, UALError
from ual_registry.hub.answers import Answer, Question, answer_fault
from ual_registry.hub.conduct import WAIT_LIMIT_S, Conduct, conducting, install, retried
from ual_registry.hub.content import check_content, read_body
from ual_registry.hub.decoding import listed, snapshot_of
from ual_registry.hub.faults import translated
from ual_registry.hub.limits import Limits, current
from ual_registry.hub.model import HubFile, ListedModel, Snapshot
from ual_registry.hub.told import Told
from ual_registry.hub.xet import XetStore
from ual_registry.remote import RemoteSource

__all__ = ["FIRST_BYTES", "Hub"]

LIBRARY = "ual-registry"
FIRST_BYTES = 192 * 1024
"""What the first range request asks for, so that it and the pin before it stay under 256 KiB."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A Hub, by its own client.

    Attributes:
        api: The client.
        endpoint: Its address.
        xet: Its store of large files by chunks.
        conduct: How long this command waits for it, and where its token may go.
    """

    api: Any
    endpoint: str
    xet: XetStore
    conduct: Conduct = field(default_factory=Conduct)

    @classmethod
    def open(cls, endpoint: str | None = None, *, wait_limit_s: float = WAIT_LIMIT_S) -> Hub:
        """Make a client; nothing is sent yet.

        Args:
            endpoint: The Hub's address; by default the one of ``HF_ENDPOINT``, or else the public one.
            wait_limit_s: How many seconds to wait in all because the Hub says so.
        """
        from importlib.metadata import version  # noqa: PLC0415  # only where the Hub is used

        from huggingface_hub import HfApi, constants  # noqa: PLC0415  # only where the Hub is used

        install()
        address = (endpoint or constants.ENDPOINT).rstrip("/")
        api = HfApi(endpoint=address, library_name=LIBRARY, library_version=version(LIBRARY))
        xet = XetStore(api=api, endpoint=address)
        return cls(api=api, endpoint=address, xet=xet, conduct=Conduct(origin=address, wait_limit_s=wait_limit_s))

    def ask(
        self,
        call: Callable[[], _T],
        what: str,
        repository: str,
        *,
        revision: str | None = None,
        path: str | None = None,
        retry: bool = True,
    ) -> _T:
        """Make a call to the client by the conduct of this Hub, with its errors translated.

        Args:
            call: The call.
            what: What it does, as in "cannot WHAT hf:owner/name".
            repository: The repository that it is about, or empty.
            revision: The revision, where one is asked for.
            path: The file, where one is asked for.
            retry: Whether to try again where the Hub was busy; only for calls that change nothing.

        Raises:
            HubError: The Hub, or the way to it, refused.
        """

        def once() -> _T:
            with translated(what, repository, revision=revision, path=path, endpoint=self.endpoint):
                return call()

        with conducting(self.conduct):
            return retried(once) if retry else once()

    def pin(self, repository: str, revision: str | None = None) -> Snapshot:
        """Find the commit that a revision means now, and what it holds; one request.

        Args:
            repository: The repository, ``owner/name``.
            revision: A branch, tag or commit; by default the main branch.

        Raises:
            HubError: It is not there, has another name now, or cannot be read.
        """
        timeout_s = _timeout_s()
        info = self.ask(
            lambda: self.api.model_info(repository, revision=revision, files_metadata=True, timeout=timeout_s),
            "read",
            repository,
            revision=revision,
        )
        question = Question(what="read", repository=repository, revision=revision, endpoint=self.endpoint)
        if info.id != repository:
            raise _renamed(question, info.id)
        try:
            return snapshot_of(info)
        except (TypeError, AttributeError, ValueError) as error:
            raise question.fault(
                HubError,
                code="hub-answer",
                reason=f"the answer is not understood ({error})",
                hint="check HF_ENDPOINT; is it a Hub?",
            ) from error

    def read_small(self, snapshot: Snapshot, file: HubFile, *, limit_bytes: int) -> bytes:
        """Read a small file whole, and verify it.

        Raises:
            HubError: It is larger than ``limit_bytes``, cannot be read, or is not what the commit holds.
        """
        question = self._question(snapshot, file)
        if file.size_bytes > limit_bytes:
            reason = f"{file.size_bytes} bytes, over the limit of {limit_bytes}"
            raise question.fault(HubError, code="hub-content", reason=reason)
        data = self._read_once(snapshot, file)
        fault = check_content(file, data)
        if fault is not None:
            data = self._read_once(snapshot, file)
            fault = check_content(file, data)
        if fault is not None:
            raise question.fault(HubError, code="hub-content", reason=fault, hint="try again; it came twice like this")
        return data

    def _read_once(self, snapshot: Snapshot, file: HubFile) -> bytes:
        url, timeout_s = self.file_url(snapshot, file), _timeout_s()

        def read() -> bytes:
            from huggingface_hub import get_session  # noqa: PLC0415  # only where the Hub is used
            from huggingface_hub.utils._http import hf_raise_for_status  # noqa: PLC0415  # makes the client's errors

            headers = {**self.headers(), "Accept-Encoding": "identity"}
            with get_session().stream("GET", url, headers=headers, timeout=timeout_s) as response:
                hf_raise_for_status(response)
                return read_body(response.iter_bytes(), limit_bytes=file.size_bytes + 1, silence_s=timeout_s)

        return self.ask(read, "read", snapshot.repository, revision=snapshot.commit, path=file.path)

    def open_range(self, snapshot: Snapshot, file: HubFile, *, first_bytes: int = FIRST_BYTES) -> RemoteSource:
        """Open a file for reading parts of it, by at most three requests; the first bytes are read at once.

        With the pin before it, a header of up to ``first_bytes`` takes three requests: the pin, the address of the
        bytes, and the bytes. A longer one takes one more.

        Args:
            snapshot: The repository at one commit.
            file: One of its files.
            first_bytes: How many bytes to ask for first.

        Raises:
            HubError: The Hub refuses, or cannot be reached.
            StorageError: The server knows no ranges (``remote-no-ranges``), or answers amiss.
        """
        question, url = self._question(snapshot, file), self.file_url(snapshot, file)

        def open_it() -> RemoteSource:
            _refuse_offline(url)
            sent = self.headers()

            def explain(error: StorageError, status: int | None, headers: dict[str, str]) -> UALError:
                return _range_fault(error, status, headers, question, is_known="authorization" in sent)

            return RemoteSource(
                url,
                headers=sent,
                first_bytes=max(1, min(first_bytes, file.size_bytes)),
                timeout_s=_timeout_s(),
                explain=explain,
                gate=_gate(),
            )

        return self.ask(open_it, "read", snapshot.repository, revision=snapshot.commit, path=file.path)

    def list_models(
        self, *, filters: Iterable[str] = (), author: str | None = None, search: str | None = None, limit: int
    ) -> Iterator[ListedModel]:
        """List repositories that have every tag of ``filters``, page by page as they are taken.

        Args:
            filters: Tags.
            author: Whose.
            search: A part of the name.
            limit: How many at most.

        Raises:
            HubError: The Hub refuses, or cannot be reached.
        """
        pages = self.ask(
            lambda: iter(
                self.api.list_models(filter=list(filters) or None, author=author, search=search, limit=limit, full=True)
            ),
            "list",
            "",
        )
        end = object()
        while (item := self.ask(lambda: next(pages, end), "list", "", retry=False)) is not end:
            yield listed(item)

    def file_url(self, snapshot: Snapshot, file: HubFile) -> str:
        """Return the address of a file at its commit."""
        return f"{self.endpoint}/{quote(snapshot.repository)}/resolve/{snapshot.commit}/{quote(file.path)}"

    @staticmethod
    def headers() -> dict[str, str]:
        """Return what the client sends with every call, the token too; never to be stored or shown."""
        from importlib.metadata import version  # noqa: PLC0415  # only where the Hub is used

        from huggingface_hub.utils._headers import build_hf_headers  # noqa: PLC0415  # the public name has no type

        return dict(build_hf_headers(library_name=LIBRARY, library_version=version(LIBRARY)))

    def _question(self, snapshot: Snapshot, file: HubFile) -> Question:
        return Question(
            what="read",
            repository=snapshot.repository,
            revision=snapshot.commit,
            path=file.path,
            endpoint=self.endpoint,
        )


@dataclass(frozen=True, slots=True)
class _LimitGate:
    """Lets the limits of this process hold back what is asked without the client."""

    limits: Limits

    def before(self, url: str) -> None:
        self.limits.before(url)

    def after(self, url: str, status: int, headers: Mapping[str, str]) -> None:
        self.limits.after(url, status, Told.read(headers))


def _gate() -> _LimitGate | None:
    limits = current()
    return None if limits is None else _LimitGate(limits)


def _timeout_s() -> float:
    """Return the seconds of silence after which a call ends."""
    from huggingface_hub import constants  # noqa: PLC0415  # only where the Hub is used

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


def _refuse_offline(url: str) -> None:
    from huggingface_hub import constants  # noqa: PLC0415  # only where the Hub is used
    from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415  # only where the Hub is used

    if constants.is_offline_mode():
        raise OfflineModeIsEnabled(url)


def _renamed(question: Question, name: object) -> HubError:
    new = str(name)[:100]
    return question.fault(
        HubError, code="hub-renamed", reason=f"its name is now {new}", hint=f"use hf:{new}", context={"renamed_to": new}
    )


def _range_fault(
    error: StorageError, status: int | None, headers: dict[str, str], question: Question, *, is_known: bool
) -> UALError:
    """Say what a failed range request means for a file on the Hub."""
    if status is not None and error.problem_code == "remote-status":
        words = headers.get("x-error-message", "")
        return answer_fault(Answer(status=status, headers=headers, words=words, is_known=is_known), question)
    if error.problem_code == "remote-unreachable":
        reason = error.message.partition(": ")[2]
        code = "hub-timeout" if "in time" in reason else "hub-unavailable"
        return question.fault(HubUnavailableError, code=code, reason=reason, hint="check the network")
    return error
