"""Names that git gives to contents, folders and commits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

__all__ = ["blob_id", "commit_id", "folder_ids", "pointer"]


def _named(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def blob_id(content: bytes) -> str:
    """Name a blob."""
    return _named("blob", content)


def pointer(sha256: str, size_bytes: int) -> bytes:
    """Write the small text that stands in git for a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n".encode()


def folder_ids(blobs: Mapping[str, str]) -> dict[str, str]:
    """Name every folder, the root as ``""``, from the names of the blobs by path."""
    entries: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for path, name in blobs.items():
        folder, _, leaf = path.rpartition("/")
        entries.setdefault(folder, {})[leaf] = ("100644", name)
        while folder:
            folder = folder.rpartition("/")[0]
            entries.setdefault(folder, {})
    found: dict[str, str] = {}
    for folder in sorted(entries, key=lambda path: (path.count("/") + bool(path), path), reverse=True):
        found[folder] = _named("tree", _tree(entries[folder]))
        parent, _, leaf = folder.rpartition("/")
        if folder:
            entries[parent][leaf] = ("40000", found[folder])
    return found


def _tree(entries: Mapping[str, tuple[str, str]]) -> bytes:
    """Write a tree; git sorts a folder as if its name ended in a slash."""
    ordered = sorted(entries.items(), key=lambda item: item[0] + ("/" if item[1][0] == "40000" else ""))
    return b"".join(f"{mode} {leaf}\0".encode() + bytes.fromhex(name) for leaf, (mode, name) in ordered)


def commit_id(*, tree: str, parent: str | None, author: str, seconds: int, message: str) -> str:
    """Name a commit."""
    who = f"{author} <{author}@users.noreply.huggingface.co> {seconds} +0000"
    lines = [
        f"tree {tree}",
        *([f"parent {parent}"] if parent else []),
        f"author {who}",
        f"committer {who}",
        "",
        message,
    ]
    return _named("commit", "\n".join(lines).encode())
