"""Coverage-guided fuzzing of the reader, the manifest decoder and the search language, where atheris is installed.

    pip install atheris
    python -m tests.hostile.coverage_guided -runs=100000

The seeded campaign of ``tests.hostile.fuzzing`` compares two readers; this one looks for inputs that reach new code of
ours. Anything but a report or a typed error ends it, with the input written to a file.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ual_registry"]):
    from ual_registry.air.document import decode_manifest
    from ual_registry.air.header import check_air_layout, read_header
    from ual_registry.air.tensor import MemorySource
    from ual_registry.air.validate import validate_file
    from ual_registry.errors import ContainerError, QueryError
    from ual_registry.registry.query import parse_query

from tests.hostile.fuzzing import mutate_file, seeds

_FOLDER = Path(tempfile.mkdtemp(prefix="ual-fuzz-"))


def _one_input(data: bytes) -> None:
    """Show one input to everything that reads bytes or texts of strangers."""
    with contextlib.suppress(ContainerError):
        check_air_layout(read_header(MemorySource(data), len(data)))
    path = _FOLDER / "input.air"
    path.write_bytes(data)
    validate_file(path)
    text = data.decode("utf-8", "replace")
    decode_manifest(text)
    with contextlib.suppress(QueryError):
        parse_query(text[:200])


def _mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutate as the campaign does where the input is a container, and bytes elsewhere."""
    rng = random.Random(seed)
    try:
        return mutate_file(data, rng)[:max_size]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError):
        return bytes(atheris.Mutate(data, max_size))


def main() -> None:
    """Write the legal files as a corpus and fuzz from there."""
    corpus = _FOLDER / "corpus"
    corpus.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / f"{number}.air").write_bytes(data)
    atheris.Setup([*sys.argv, str(corpus), "-max_len=16384", "-timeout=5"], _one_input, custom_mutator=_mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
