"""Write the conformance vectors anew: the same call writes the same bytes everywhere.

    python -m spec.vectors.generate [FOLDER]

Every file is crafted byte by byte and every expected answer is written down by hand, from the rules of the
specification; nothing of the package under test is used.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from spec.vectors.cases_binders import binder_cases
from spec.vectors.cases_container import container_cases
from spec.vectors.cases_json import json_cases
from spec.vectors.cases_manifest import manifest_cases
from spec.vectors.cases_tensors import digest_cases, name_cases
from spec.vectors.cases_valid import valid_cases
from spec.vectors.craft import Case

__all__ = ["VERSION", "all_cases", "write_cases"]

VERSION = "1.0"
"""The version of the specification that the vectors belong to."""


def all_cases() -> Iterator[Case]:
    """Yield every case of this version."""
    yield from valid_cases()
    yield from container_cases()
    yield from manifest_cases()
    yield from json_cases()
    yield from digest_cases()
    yield from name_cases()
    yield from binder_cases()


def write_cases(folder: Path) -> int:
    """Write every case as ``folder/1.0/<case>/``, in place of what was there.

    Returns:
        How many there are.

    Raises:
        ValueError: Two cases have one name.
    """
    place = folder / VERSION
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    cases = list(all_cases())
    for case in cases:
        _write(case, place / case.name)
    return len(cases)


def _write(case: Case, folder: Path) -> None:
    if folder.exists():
        raise ValueError(f"two cases are called {case.name}")
    folder.mkdir()
    document = {"description": case.description, "operation": case.operation, **case.input, "expected": case.expected}
    text = json.dumps(document, ensure_ascii=True, indent=2) + "\n"
    (folder / "case.json").write_text(text, encoding="ascii", newline="\n")
    for name, data in case.files.items():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    print(f"wrote {write_cases(target)} vectors to {target / VERSION}")
