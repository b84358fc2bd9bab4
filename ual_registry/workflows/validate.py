"""Check files: is this legal AIR?"""

from __future__ import annotations

from pathlib import Path

from ual_registry.air.problem import Problem, ValidationReport
from ual_registry.air.validate import validate_file
from ual_registry.errors import StorageError
from ual_registry.interop.peft_config import CONFIG_FILE

__all__ = ["validate"]


def validate(path: str | Path, *, headers_only: bool = False) -> ValidationReport:
    """Check one file and report everything that is wrong with it.

    Args:
        path: The file.
        headers_only: Whether to leave the tensors unread, and with them their digest and their numbers.

    Returns:
        The report; ``ok`` tells whether the file is legal. A file that cannot be read is a problem of the report.
    """
    file = Path(path)
    if file.is_dir():
        return ValidationReport(path=str(path), problems=(_folder_problem(file),))
    try:
        return validate_file(file, headers_only=headers_only)
    except StorageError as error:
        problem = Problem(code=error.problem_code, place="", message=error.message, hint=error.hint, branch="storage")
        return ValidationReport(path=str(path), problems=(problem,))


def _folder_problem(folder: Path) -> Problem:
    is_peft = (folder / CONFIG_FILE).is_file()
    hint = f"this is a PEFT folder: 'ual convert {folder} FILE.air --base BASE' first" if is_peft else "give a file"
    return Problem(
        code="folder", place="", message=f"{folder} is a folder, not an AIR file", hint=hint, branch="container"
    )
