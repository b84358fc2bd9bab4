"""What the store of Xet answers, as hf_xet asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.hub_server.messages import Answer, FilePart, Refused, Request, Route
from tests.hub_server.xet_contents import XetContents
from tests.hub_server.xet_formats import Segment, XetFile, cut, read_shard, runs

__all__ = ["Endpoints"]


class Endpoints:
    """What the store answers.

    Args:
        contents: What it holds.
        altered: Makes a copy of a file with the byte at a place inverted.
        is_open: Whether no token is asked for.
    """

    def __init__(
        self, contents: XetContents, altered: Callable[[XetFile, int], XetFile], *, is_open: bool = False
    ) -> None:
        self._store = contents
        self._altered = altered
        self._is_open = is_open

    def routes(self) -> tuple[Route, ...]:
        """Name the endpoints of the protocol, as hf_xet speaks it; what is missing here, hf_xet does without."""
        table: tuple[tuple[str, str, str, Callable[[Request], Answer]], ...] = (
            ("cas-chunk", "GET", r"/v1/chunks/default/\w+", self._no_chunk),
            ("cas-grant", "POST", r"/v1/xorb-grants/default/\w+", self._no_grant),
            ("cas-xorb-put", "POST", r"/v1/xorbs/default/(?P<hash>\w+)", self._put_xorb),
            ("cas-shard", "POST", r"/v2/shards", self._put_shard),
            ("cas-reconstruction", "GET", r"/v2/reconstructions/(?P<hash>\w+)", self._explain),
            ("cas-xorb-get", "GET", r"/xorbs/(?P<hash>\w+)", self._get_xorb),
        )
        return tuple(
            Route(
                endpoint=name,
                methods=(method,),
                pattern=re.compile(pattern),
                answer=answer,
                budget="xet",
                flips_itself=name == "cas-reconstruction",
            )
            for name, method, pattern, answer in table
        )

    def _check(self, request: Request, kind: str) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not self._is_open and not self._store.allows(token, kind):
            raise Refused(401, "The token of the store is unknown, has expired or does not allow this")

    def _no_chunk(self, request: Request) -> Answer:
        self._check(request, "write")
        raise Refused(404, "The store does not look for chunks of other files")

    def _no_grant(self, request: Request) -> Answer:
        self._check(request, "write")
        raise Refused(404, "The store takes xorbs itself")

    def _put_xorb(self, request: Request) -> Answer:
        self._check(request, "write")
        is_new = self._store.add_xorb(request.arguments["hash"], request.body.read())
        return Answer.json({"was_inserted": is_new})

    def _put_shard(self, request: Request) -> Answer:
        self._check(request, "write")
        try:
            for file in read_shard(request.body.read()):
                self._store.add_file(file)
        except ValueError as error:
            raise Refused(400, f"The shard is not in order: {error}") from error
        return Answer.json({"type": "result"})  # one line: the upload is checked and stored

    def _get_xorb(self, request: Request) -> Answer:
        xorb = request.arguments["hash"]  # the address is signed, as it were, and goes without a token
        chunks = self._store.chunks(xorb)
        if chunks is None:
            raise Refused(404, "No such xorb")
        path = self._store.path(xorb)
        size = path.stat().st_size
        start, end = _range(request, size)
        stated = {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
        return Answer(status=206, headers=stated, content=FilePart(path=path, start=start, length=end - start))

    def _explain(self, request: Request) -> Answer:
        self._check(request, "read")
        file = self._store.file(request.arguments["hash"])
        if file is None:
            raise Refused(404, "No such file")
        start, end = _range(request, file.size)
        if start >= file.size:
            raise Refused(416, "The range begins beyond the end of the file")
        if request.flip is not None:
            file = self._altered(file, request.flip % file.size)
        offset, parts = self._parts(file, start, end)
        terms = [
            {"hash": part.xorb, "unpacked_length": part.length, "range": {"start": part.first, "end": part.end}}
            for part in parts
        ]
        origin = f"http://{request.headers['host']}"
        return Answer.json({"offset_into_first_range": offset, "terms": terms, "xorbs": self._addresses(parts, origin)})

    def _parts(self, file: XetFile, start: int, end: int) -> tuple[int, list[Segment]]:
        at, offset = 0, 0
        parts: list[Segment] = []
        for segment in file.segments:
            first, last = max(start - at, 0), min(end - at, segment.length)
            if first < last:
                part, before = cut(segment, self._store.chunks(segment.xorb) or (), first, last)
                offset = offset if parts else before
                parts.append(part)
            at += segment.length
        return offset, parts

    def _addresses(self, parts: list[Segment], origin: str) -> dict[str, list[dict[str, Any]]]:
        addresses: dict[str, list[dict[str, Any]]] = {}
        for xorb, first, end in runs(parts):
            chunks = self._store.chunks(xorb) or ()
            bytes_of = {"start": chunks[first].start, "end": chunks[end - 1].end - 1}  # the last byte itself
            ranges = [{"chunks": {"start": first, "end": end}, "bytes": bytes_of}]
            addresses.setdefault(xorb, []).append({"url": f"{origin}/xorbs/{xorb}", "ranges": ranges})
        return addresses


def _range(request: Request, size: int) -> tuple[int, int]:
    """Read the range that is asked for: its first byte and the byte after its last."""
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return 0, size
    return int(wanted[1]), min(int(wanted[2]) + 1, size) if wanted[2] else size
