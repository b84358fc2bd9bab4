"""Processes that push at once: ``python -m tests.integration.pushing FOLDER PUSHES``.

PUSHES is a JSON list with the words of each push. The processes are copies of this one, which has loaded what a push
needs, so that eight of them start as fast as one. Each runs the command with ``--json``; the exit code and the document
of each go to standard output, in one line of JSON. FOLDER takes what they say meanwhile.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn
from unittest import mock

from ual_registry.cli.main import run

_LOADED_LATE = (
    "hf_xet",
    "huggingface_hub.hf_api",
    "huggingface_hub.lfs",
    "huggingface_hub.utils._pagination",
    "ual_registry.registry.registry",
    "ual_registry.workflows.push_material",
)
"""What a push loads on its way, and may be loaded before a process is copied: none of it starts a thread."""


def main(folder: Path, pushes: list[list[str]]) -> int:
    """Start the processes, wait for them, and say how each ended."""
    for name in _LOADED_LATE:
        importlib.import_module(name)
    mock.patch("ual_registry.workflows.push_material.draw_picture", return_value=None).start()
    copies = []
    for index, words in enumerate(pushes):
        copies.append(os.fork())
        if copies[-1] == 0:
            _push(folder / f"{index}.json", words)
    codes = [os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) for copy in copies]
    said = [(folder / f"{index}.json").read_text() for index in range(len(pushes))]
    print(json.dumps([[code, json.loads(text)] for code, text in zip(codes, said, strict=True)]))
    return 0


def _push(place: Path, words: list[str]) -> NoReturn:
    try:
        sys.stdout = place.open("w")
        code = run(["push", *words, "--json"])
        sys.stdout.close()
        os._exit(code)
    except BaseException:  # noqa: BLE001  # whatever it is, this copy must not go on as its original
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
