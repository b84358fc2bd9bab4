"""The model card of an adapter: a part that is made from its manifest, between marks, and what people write round it.

The part between the marks is made anew each time. What stands before and after it, and the metadata that the manifest
does not decide, stays byte for byte; so does everything where a card cannot be updated, because then it is refused.
"""

from __future__ import annotations

import re
from typing import Any

from ual_registry.air.model import Manifest
from ual_registry.errors import HubError
from ual_registry.hub.card_body import card_body
from ual_registry.hub.card_front import card_error, split_front
from ual_registry.hub.card_tags import card_tags, is_own_tag
from ual_registry.hub.card_text import literal
from ual_registry.hub.card_usage import Place
from ual_registry.hub.card_values import metadata_values

__all__ = ["BEGIN", "END", "make_card"]

BEGIN = "<!-- ual:begin -->"
END = "<!-- ual:end -->"
_MARK = re.compile(r"<!--[ \t]*ual:(begin|end)[ \t]*-->")
_NOTE = "<!-- `ual push` writes this part anew each time. Write above or below it: that stays. -->"
_PATH = re.compile(r"[^\x00-\x1f\x7f<>`|\\\"\u2028\u2029\ud800-\udfff]+")


def make_card(
    manifest: Manifest,
    *,
    air_path: str,
    digest: str,
    has_peft: bool,
    picture: str | None,
    existing: str | None,
    repository: str,
) -> str:
    """Make the card of an adapter, or update the one that a repository has.

    Making it again from its own result changes nothing.

    Args:
        manifest: What the adapter says about itself.
        air_path: Path of the AIR file in the repository.
        digest: Digest of that file.
        has_peft: Whether the same folder of the repository holds the adapter in the format of PEFT.
        picture: Path of the picture in the repository; ``None`` where there is none.
        existing: The text of the card that the repository has.
        repository: Id of the repository on the Hub.

    Raises:
        HubError: The existing card cannot be updated without losing something, or a path or the repository's id has
            signs that a card cannot hold.
    """
    place = Place(
        repository=_checked(repository), air_path=_checked(air_path), digest=digest, has_peft=has_peft,
        picture=_checked(picture) if picture else None,
    )  # fmt: skip
    front, body = split_front(existing or "")
    values: dict[str, Any] = metadata_values(manifest, has_peft=has_peft)
    others = [tag for tag in front.tags() if not is_own_tag(tag)]
    values["tags"] = list(dict.fromkeys([*others, *card_tags(manifest, has_peft=has_peft)]))
    part = f"{BEGIN}\n{_NOTE}\n\n{card_body(manifest, place)}\n\n{END}".replace("\n", front.line_end)
    return f"{front.with_values(values)}{_placed(part, body, front.line_end, repository)}"


def _placed(part: str, body: str, line_end: str, repository: str) -> str:
    """Put the made part in place of the old one, or after what people wrote."""
    span = _old_part(body)
    if span:
        return f"{body[: span[0]]}{part}{body[span[1] :]}"
    if not body.strip():
        title = literal(repository.rpartition("/")[2])
        return f"{body}{line_end}# {title}{line_end * 2}{part}{line_end}"
    missing = 0 if body.endswith(line_end * 2) else 1 if body.endswith(line_end) else 2
    return f"{body}{line_end * missing}{part}{line_end}"


def _old_part(body: str) -> tuple[int, int] | None:
    """Return where the old part begins and ends.

    Raises:
        HubError: One of the marks is missing, there twice, or the two stand in the wrong order.
    """
    marks = [*_MARK.finditer(body)]
    names = [mark[1] for mark in marks]
    if not names:
        return None
    for name, mark in (("begin", BEGIN), ("end", END)):
        count = names.count(name)
        if count != 1:
            raise card_error(
                f"the mark '{mark}' is {'missing' if count == 0 else f'there {count} times'}",
                f"leave one '{BEGIN}' and, below it, one '{END}', or take both away",
            )
    if names != ["begin", "end"]:
        raise card_error(f"the mark '{END}' stands before '{BEGIN}'", "put them in order, or take both away")
    return marks[0].start(), marks[1].end()


def _checked(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise HubError(
            f"path {path!r}: has signs that a card cannot hold",
            code="hub-address",
            hint="name the file with letters, digits and - _ . /",
        )
    return path
