"""Is this file legal AIR? A report of everything that is wrong with it, never an exception about the file.

Structure needs the header alone; the full check also reads the tensors once, for their digest and their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ual_registry.air.document import decode_manifest
from ual_registry.air.header import METADATA_KEY, Header, check_air_layout, open_header
from ual_registry.air.model import Manifest
from ual_registry.air.policy import Policy, policy_problems
from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.air.recipe import recipe_problems, recipe_route
from ual_registry.air.router import ROUTER_FACTORS, RouterManifest, router_problems
from ual_registry.air.scan import THREADS, TensorScan, scan_tensors
from ual_registry.air.sweep import WINDOW_BYTES, Route, plan_route, sweep
from ual_registry.air.tensor import FLOAT_DTYPES, FileSource, Shaped, SizedSource, Tensor, TensorInfo
from ual_registry.errors import ContainerError

__all__ = [
    "Inspection",
    "factor_names",
    "inspect_file",
    "inspect_source",
    "look",
    "non_finite_problems",
    "report_on",
    "scan_problems",
    "scanned_problems",
    "validate_file",
    "validate_source",
]


class Inspection:
    """A file looked at as far as it can be read: header, manifest and everything that is wrong with them."""

    def __init__(self, source: SizedSource) -> None:
        self.source = source
        self.header: Header | None = None
        self.manifest: Manifest | RouterManifest | None = None
        self.problems: list[Problem] = []

    @property
    def errors(self) -> list[Problem]:
        """The faults, warnings left out."""
        return [problem for problem in self.problems if not problem.is_warning]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a file whose header could be read."""
        return self.header.tensors(self.source) if self.header else {}


def inspect_file(path: Path) -> Inspection:
    """Check header, manifest and rules of a file without reading a tensor.

    Raises:
        StorageError: The file cannot be read.
    """
    return inspect_source(FileSource(path))


def inspect_source(source: SizedSource) -> Inspection:
    """Check header, manifest and rules of an open file, near or far, without reading a tensor.

    Raises:
        StorageError: The file cannot be read.
    """
    found = Inspection(source)
    try:
        found.header = open_header(found.source)
        check_air_layout(found.header)
    except ContainerError as error:
        found.problems.append(Problem.of_error(error, "container"))
    if found.header is None or METADATA_KEY not in found.header.metadata:
        return found
    decoded = decode_manifest(found.header.metadata[METADATA_KEY])
    found.manifest = decoded.manifest
    found.problems.extend(decoded.problems)
    if found.manifest is not None:
        found.problems.extend(_rule_problems(found.manifest, found.header.infos))
    return found


def validate_file(
    path: Path, *, headers_only: bool = False, policy: Policy | None = None, threads: int = THREADS
) -> ValidationReport:
    """Check a file.

    Args:
        path: The file.
        headers_only: Whether to leave the tensors unread.
        policy: What is asked of it beyond being legal.
        threads: How many threads read the tensors.

    Raises:
        StorageError: The file cannot be read.
    """
    return validate_source(FileSource(path), str(path), headers_only=headers_only, policy=policy, threads=threads)


def validate_source(
    source: SizedSource,
    label: str,
    *,
    headers_only: bool = False,
    policy: Policy | None = None,
    threads: int = THREADS,
) -> ValidationReport:
    """Check an open file, near or far, and close it.

    Args:
        source: The file.
        label: What the report calls it.
        headers_only: Whether to leave the tensors unread.
        policy: What is asked of it beyond being legal.
        threads: How many threads read the tensors.

    Raises:
        StorageError: The file cannot be read.
    """
    return report_on(look(source, policy), label, headers_only=headers_only, threads=threads)


def look(source: SizedSource, policy: Policy | None = None) -> Inspection:
    """Check all of an open file but its tensors; it stays open.

    Args:
        source: The file; closed where it cannot be read.
        policy: What is asked of it beyond being legal.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        found = inspect_source(source)
    except BaseException:
        source.close()
        raise
    if found.manifest is not None:
        found.problems.extend(policy_problems(found.manifest, source.size_bytes, policy or Policy()))
    return found


def report_on(found: Inspection, label: str, *, headers_only: bool = False, threads: int = THREADS) -> ValidationReport:
    """Check the tensors of a file that was looked at, and close it; see ``validate_source``.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        if found.manifest is not None and not headers_only:
            found.problems.extend(scanned_problems(found.manifest, _scan(found, threads)))
        return ValidationReport(path=label, problems=tuple(found.problems), facts=_facts(found))
    finally:
        found.source.close()


def _scan(found: Inspection, threads: int) -> TensorScan:
    """Read all tensors once; one thread alone, and that of a small file, reads them as they lie there."""
    manifest, header, source = found.manifest, found.header, found.source
    assert manifest is not None  # a manifest was read
    assert header is not None  # in a header
    is_small = source.size_bytes - header.data_start <= WINDOW_BYTES
    if (threads == 1 or is_small) and isinstance(source, FileSource):
        route = _route(manifest, header.infos)
        if route is not None:
            return sweep(source, header.data_start, route)
    return scan_tensors(found.tensors(), check_finite=factor_names(manifest, header.infos), threads=threads)


def _route(manifest: Manifest | RouterManifest, infos: Mapping[str, TensorInfo]) -> Route | None:
    if isinstance(manifest, RouterManifest):
        return plan_route(infos, factor_names(manifest, infos))
    return recipe_route(manifest, infos, lambda: factor_names(manifest, infos))


def scan_problems(
    manifest: Manifest | RouterManifest, tensors: dict[str, Tensor], *, check_finite: bool = True
) -> list[Problem]:
    """Read all tensors once and report what does not agree with the manifest."""
    checked = factor_names(manifest, tensors) if check_finite else ()
    return scanned_problems(manifest, scan_tensors(tensors, check_finite=checked))


def scanned_problems(manifest: Manifest | RouterManifest, scan: TensorScan) -> list[Problem]:
    """Report where what a pass over the tensors found does not agree with the manifest."""
    problems = non_finite_problems(scan)
    if str(scan.tensor_digest) != manifest.tensor_digest:
        message = f"stored {manifest.tensor_digest}, computed {scan.tensor_digest}"
        hint = "the tensors were changed after they were written: fetch or copy the file again"
        problems.append(
            Problem(code="tensor-digest", place="manifest.tensor_digest", message=message, hint=hint, branch="digest")
        )
    return problems


def non_finite_problems(scan: TensorScan) -> list[Problem]:
    """Return a fault for every factor that holds a NaN or an infinity."""
    return [
        Problem(code="non-finite", place=name, message="holds a NaN or an infinity", branch="rule")
        for name in scan.non_finite
    ]


def _rule_problems(manifest: Manifest | RouterManifest, shapes: Mapping[str, Shaped]) -> Iterable[Problem]:
    if isinstance(manifest, RouterManifest):
        return router_problems(manifest, shapes)
    return recipe_problems(manifest, shapes)


def factor_names(manifest: Manifest | RouterManifest, tensors: Mapping[str, Tensor | TensorInfo]) -> set[str]:
    """Return the names of the floating-point tensors that entries or a router use; their numbers must be finite."""
    names: set[str] = set()
    if isinstance(manifest, RouterManifest):
        names.update(ROUTER_FACTORS)
    else:
        names.update(*(entry.tensor_names().values() for entry in manifest.entries))
    return {name for name, tensor in tensors.items() if name in names and tensor.dtype in FLOAT_DTYPES}


def _facts(found: Inspection) -> dict[str, Any]:
    manifest = found.manifest
    if manifest is None:
        return {}
    return {
        "air_version": manifest.air_version,
        "kind": manifest.kind,
        **_content(manifest),
        "tensors": len(found.header.infos) if found.header else 0,
        "size_bytes": found.source.size_bytes,
        "tensor_digest": manifest.tensor_digest,
    }


def _content(manifest: Manifest | RouterManifest) -> dict[str, Any]:
    if isinstance(manifest, RouterManifest):
        return {"domains": len(manifest.domains)}
    return {"architecture": manifest.base_model.architecture, "entries": len(manifest.entries)}
