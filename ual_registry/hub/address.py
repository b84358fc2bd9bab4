"""Addresses on the Hub as people write them: a repository, and where told its revision and a path in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ual_registry.errors import HubError
from ual_registry.remote import is_url

__all__ = ["PREFIX", "HubAddress", "is_hub", "is_path", "is_repository", "repository_of_url"]

PREFIX = "hf:"
"""What marks a word as the address of something on the Hub."""

_MAX_REPOSITORY = 96
_MAX_REVISION = 250
_MAX_PATH = 1000
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?:{_NAME}/)?{_NAME}\Z")
_REVISION = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./+#=,%!-]*\Z")


def is_hub(text: str) -> bool:
    """Tell whether a word of the command line is meant as an address on the Hub.

    >>> is_hub("hf:org/name"), is_hub("org/name"), is_hub("https://huggingface.co/org/name")
    (True, False, False)
    """
    return text.startswith(PREFIX)


def is_repository(text: str, *, owned: bool = True) -> bool:
    """Tell whether ``text`` has the form of a repository's id.

    Args:
        text: The id.
        owned: Whether its owner must be named; the Hub still knows old ids without one, such as ``gpt2``.

    >>> is_repository("org/name"), is_repository("gpt2"), is_repository("gpt2", owned=False)
    (True, False, True)
    """
    return (
        len(text) <= _MAX_REPOSITORY
        and _REPOSITORY.match(text) is not None
        and not ("--" in text or ".." in text or text.endswith(".git"))
        and ("/" in text or not owned)
    )


def is_path(text: str) -> bool:
    """Tell whether ``text`` is the path of a file in a repository: relative, with ``/``, and never upwards.

    >>> is_path("a/adapter.air"), is_path("../x"), is_path("/etc/passwd"), is_path("a//b")
    (True, False, False, False)
    """
    return (
        0 < len(text) <= _MAX_PATH
        and text.isprintable()
        and "\\" not in text
        and all(part not in ("", ".", "..") for part in text.split("/"))
    )


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository on the Hub, at a revision, and a path in it; ``str()`` gives the full form.

    Attributes:
        repository: Its id, ``owner/name``.
        revision: A branch, tag or commit; ``None`` for the main branch.
        path: A file or folder of the repository.

    >>> str(HubAddress.parse("org/name@v1:sub/adapter.air"))
    'hf:org/name@v1:sub/adapter.air'
    """

    repository: str
    revision: str | None = None
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """Read ``[hf:]owner/name[@revision][:path]``.

        Raises:
            HubError: ``text`` has another form (``hub-address``).
        """
        head, colon, path = text.removeprefix(PREFIX).partition(":")
        repository, at, revision = head.partition("@")
        if not is_repository(repository):
            raise _wrong(text, f"{repository!r} is no repository (expected owner/name)")
        if at and not _is_revision(revision):
            raise _wrong(text, f"{revision!r} is no revision (expected a branch, a tag or a commit)")
        if colon and not is_path(path):
            raise _wrong(text, f"{path!r} is no path in a repository")
        return cls(repository, revision or None, path or None)

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        path = f":{self.path}" if self.path else ""
        return f"{PREFIX}{self.repository}{revision}{path}"


def _is_revision(text: str) -> bool:
    return len(text) <= _MAX_REVISION and _REVISION.match(text) is not None and ".." not in text


def repository_of_url(text: str) -> str | None:
    """Return the id of a repository in the address of its page, ``None`` where there is none.

    >>> repository_of_url("https://huggingface.co/org/name/tree/main"), repository_of_url("https://example.org/x.air")
    ('org/name', None)
    """
    found = "/".join(urlsplit(text).path.strip("/").split("/")[:2]) if is_url(text) else ""
    return found if is_repository(found) and not found.endswith(".air") else None


def _wrong(text: str, reason: str) -> HubError:
    meant = repository_of_url(text)
    hint = "write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION, or hf:OWNER/NAME@REVISION:PATH"
    return HubError(
        f"cannot read the address {text[:200]!r}: {reason[:200]}",
        context={"address": text[:200]},
        code="hub-address",
        hint=f"write {meant}, the end of its address" if meant else hint,
    )
