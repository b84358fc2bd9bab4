"""Another program as an implementation of the conformance protocol: started, asked line by line, ended.

Whatever it does wrong is a reason in words, never an error of this package: a crash, a silence, garbage, an answer to
another question. After any of these it is ended, and started anew for the next question.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ual_registry.air.canonical import parse_json
from ual_registry.errors import FormatError, StorageError

__all__ = ["Implementation", "NoAnswerError"]

_MAX_ANSWER_BYTES = 16 << 20


class NoAnswerError(Exception):
    """The implementation gave no answer that can be compared; the text says why."""


class Implementation:
    """A command that answers requests; a context manager that ends it.

    Args:
        command: The command line, split as a shell would.
        timeout_s: Seconds to wait for an answer, the start included.

    Raises:
        StorageError: The command is no command line.
    """

    def __init__(self, command: str, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise StorageError(f"cannot run {command!r}: {error}", hint="check the quotes") from error
        if not self._words:
            raise StorageError("cannot run an empty command", hint="name the command of an implementation")

    def __enter__(self) -> Implementation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Ask one question and return the answer, its ``id`` left out.

        Raises:
            NoAnswerError: There was none, or not to this question.
            StorageError: The command cannot be started.
        """
        process = self._process or self._start()
        try:
            return _decode(self._exchange(process, json.dumps(request).encode() + b"\n"), request["id"])
        except NoAnswerError:
            self._stop()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        self._buffer = b""
        try:
            self._process = subprocess.Popen(  # noqa: S603  # the command that the user asked for
                self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise StorageError.of("run", self._words[0], error) from error
        return self._process

    def _stop(self) -> None:
        """End the command and whatever it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # both are pipes
            pipe.close()
        self._process.wait()
        self._process = None

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes) -> bytes:
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        deadline = time.monotonic() + self._timeout_s
        with contextlib.suppress(BrokenPipeError):  # reading then finds the end
            process.stdin.write(line)
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if not select.select([process.stdout], [], [], max(left, 0))[0]:
                raise NoAnswerError(f"no answer within {self._timeout_s:g} s")
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise NoAnswerError(self._end(process))
            self._buffer += chunk
            if len(self._buffer) > _MAX_ANSWER_BYTES:
                raise NoAnswerError(f"an answer of more than {_MAX_ANSWER_BYTES} bytes")
        answer, _, self._buffer = self._buffer.partition(b"\n")
        return answer

    def _end(self, process: subprocess.Popen[bytes]) -> str:
        """Say how a command ended that closed its output."""
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        return f"it ended with exit code {code}" if code >= 0 else f"it was ended by signal {-code}"


def _decode(line: bytes, number: int) -> dict[str, Any]:
    try:
        answer = parse_json(line, what="answer")
    except FormatError:
        answer = None
    if not isinstance(answer, dict):
        raise NoAnswerError(f"no JSON object: {line[:200].decode('utf-8', 'backslashreplace')!r}")
    found = answer.pop("id", None)
    if type(found) is not int or found != number:
        raise NoAnswerError(f"an answer with id {json.dumps(found)}, expected {number}")
    return answer
