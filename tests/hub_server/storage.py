"""The storage of large files: what the hub says about it, and the origin that takes and gives the bytes."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.hub_server.messages import Answer, FilePart, Refused, Request, Route
from tests.hub_server.objects import LargeObjects

__all__ = ["Storage", "Xet", "partial"]

_SIGNED_S = 3600
_OID = r"(?P<oid>[0-9a-f]{64})"


class Xet(Protocol):
    """Storage by chunks, which the client may use instead of this one."""

    def find(self, sha256: str) -> str | None:
        """Give the Xet hash of what was uploaded by Xet with this sha256."""

    def read(self, xet_hash: str, target: Path) -> None:
        """Write a stored file to ``target``."""

    def keep(self, source: Path) -> str:
        """Store a file, and give its Xet hash."""


class Storage:
    """Takes and gives large files by signed addresses, without asking who it is.

    Args:
        objects: Where they are.
        part_bytes: Size of a part of an upload in parts.
        whole_bytes: Up to this size a file is uploaded whole.
    """

    def __init__(self, objects: LargeObjects, *, part_bytes: int, whole_bytes: int) -> None:
        self.url = ""
        self.xet: Xet | None = None
        self.part_bytes = part_bytes
        self.whole_bytes = whole_bytes
        self._objects = objects
        self._parts: dict[tuple[str, int], str] = {}
        self._key = secrets.token_bytes(16)
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """Name the endpoints of the cdn."""
        table = [
            ("lfs-put", ("PUT",), f"/upload/{_OID}", self._put),
            ("lfs-part", ("PUT",), f"/upload/{_OID}/(?P<number>[0-9]+)", self._put_part),
            ("lfs-complete", ("POST",), f"/upload/{_OID}/complete", self._complete),
            ("cdn-get", ("GET", "HEAD"), f"/objects/{_OID}", self._get),
        ]
        return [
            Route(endpoint=endpoint, methods=methods, pattern=re.compile(pattern), answer=answer, budget="cdn")
            for endpoint, methods, pattern, answer in table
        ]

    def batch(self, asked: Mapping[str, Any], verify: str) -> tuple[str, list[dict[str, Any]]]:
        """Say how each of some objects is to be uploaded; those that are here need nothing."""
        objects, in_parts = [], "multipart" in asked.get("transfers", ())
        for item in asked["objects"]:
            told: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
            if self.size(item["oid"]) != item["size"]:
                told["authenticated"] = True
                told["actions"] = {"upload": self._upload(item, in_parts=in_parts), "verify": {"href": verify}}
            objects.append(told)
        is_split = any("chunk_size" in item.get("actions", {}).get("upload", {}).get("header", {}) for item in objects)
        return "multipart" if is_split else "basic", objects

    def download(self, sha256: str) -> str:
        """Give an address, good for an hour, at which an object can be read."""
        return self._signed(f"/objects/{sha256}")

    def size(self, sha256: str) -> int | None:
        """Give the size of an object, where it is here."""
        return self._objects.path(sha256).stat().st_size if self._objects.has(sha256) else None

    def adopt(self, sha256: str) -> int | None:
        """Give the size of an object that came here or by Xet; each becomes readable both ways."""
        if self.xet is None:
            return self.size(sha256)
        xet_hash = self.xet.find(sha256)
        if xet_hash is not None:
            if not self._objects.has(sha256):
                self.xet.read(xet_hash, self._objects.path(sha256))
            self._objects.set_xet_hash(sha256, xet_hash)
        elif self._objects.has(sha256):
            self.keep_by_xet(sha256)
        return self.size(sha256)

    def keep_by_xet(self, sha256: str) -> None:
        """Make an object readable by Xet, where there is Xet."""
        if self.xet is not None and self._objects.xet_hash(sha256) is None:
            self._objects.set_xet_hash(sha256, self.xet.keep(self._objects.path(sha256)))

    def _upload(self, item: Mapping[str, Any], *, in_parts: bool) -> dict[str, Any]:
        oid, size = item["oid"], item["size"]
        if not in_parts or size <= self.whole_bytes:
            return {"href": self._signed(f"/upload/{oid}")}
        numbers = range(1, math.ceil(size / self.part_bytes) + 1)
        parts = {str(number): self._signed(f"/upload/{oid}/{number}") for number in numbers}
        return {
            "href": self._signed(f"/upload/{oid}/complete"),
            "header": {"chunk_size": str(self.part_bytes), **parts},
        }

    def _signed(self, path: str) -> str:
        expires = int(time.time()) + _SIGNED_S
        return f"{self.url}{path}?expires={expires}&signature={self._signature(path, expires)}"

    def _signature(self, path: str, expires: int) -> str:
        return hmac.new(self._key, f"{path} {expires}".encode(), "sha256").hexdigest()

    def _admit(self, request: Request) -> None:
        """Let a request in that carries a good signature and no other word on who asks.

        Raises:
            Refused: The signature is bad or too old, or a token came here, where none may come.
        """
        if "authorization" in request.headers:
            raise Refused(400, "Only one auth mechanism allowed: a signed address takes no Authorization header")
        expires = request.first("expires", "0")
        good = self._signature(request.path, int(expires)) if expires.isdigit() else ""
        if not hmac.compare_digest(good, request.first("signature")) or int(expires) < time.time():
            raise Refused(403, "AccessDenied: the signature is not valid")

    def _put(self, request: Request) -> Answer:
        self._admit(request)
        sha256 = self._objects.write(request.body.pieces())
        if sha256 != request.arguments["oid"]:
            self._objects.path(sha256).unlink()
            raise Refused(400, f"BadDigest: the content's sha256 is {sha256}")
        return Answer(headers={"ETag": f'"{sha256[:32]}"'})

    def _put_part(self, request: Request) -> Answer:
        self._admit(request)
        sha256 = self._objects.write(request.body.pieces())
        with self._lock:
            self._parts[request.arguments["oid"], int(request.arguments["number"])] = sha256
        return Answer(headers={"ETag": f'"{sha256[:32]}"'})

    def _complete(self, request: Request) -> Answer:
        self._admit(request)
        oid, told = request.arguments["oid"], request.json()
        with self._lock:
            held = {number: sha256 for (of, number), sha256 in self._parts.items() if of == oid}
        named = {item["partNumber"]: item["etag"].strip('"') for item in told["parts"]}
        if told["oid"] != oid or named != {number: sha256[:32] for number, sha256 in held.items()}:
            raise Refused(400, "InvalidPart: not the parts that were uploaded")
        sha256 = self._objects.write(self._objects.read(held[number]) for number in sorted(held))
        if sha256 != oid:
            self._objects.path(sha256).unlink()
            raise Refused(400, f"BadDigest: the content's sha256 is {sha256}")
        with self._lock:
            for number in held:
                self._parts.pop((oid, number), None)
        return Answer.json({"success": True})

    def _get(self, request: Request) -> Answer:
        self._admit(request)
        oid = request.arguments["oid"]
        size = self.size(oid)
        if size is None:
            raise Refused(404, "NoSuchKey: no such object")
        whole = FilePart(path=self._objects.path(oid), start=0, length=size)
        return partial(request, whole, {"ETag": f'"{hashlib.md5(oid.encode()).hexdigest()}"'})


def partial(request: Request, whole: bytes | FilePart, headers: Mapping[str, str]) -> Answer:
    """Answer with a whole, or with the range of it that is asked for.

    Raises:
        Refused: The range begins behind the end.
    """
    size = len(whole) if isinstance(whole, bytes) else whole.length
    told = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "").strip())
    if request.ignore_range or match is None or match.groups() == ("", ""):
        return Answer(headers=told, content=whole)
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) if first and last else size - 1, size - 1)
    if start >= size or start > end:
        raise Refused(416, "Requested Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
    told["Content-Range"] = f"bytes {start}-{end}/{size}"
    if isinstance(whole, bytes):
        return Answer(status=206, headers=told, content=whole[start : end + 1])
    return Answer(status=206, headers=told, content=FilePart(path=whole.path, start=start, length=end + 1 - start))
