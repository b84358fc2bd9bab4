"""How revisions are named, and how names move."""

from __future__ import annotations

import datetime

import pytest
from sqlalchemy import select

from tests.unit.registry.conftest import Files
from ual_registry.digest import Digest
from ual_registry.errors import FormatError, RegistryConflictError, RegistryError, RegistryNotFoundError
from ual_registry.registry.records import AliasMove
from ual_registry.registry.reference import Reference, check_alias, check_name
from ual_registry.registry.registry import Registry
from ual_registry.registry.tables import AuditRow

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("medical", Reference(name="medical")),
        ("a", Reference(name="a")),
        ("0", Reference(name="0")),
        ("A.b_c-9", Reference(name="A.b_c-9")),
        ("x" * 128, Reference(name="x" * 128)),
        ("medical@3", Reference(name="medical", number=3)),
        ("medical@0", Reference(name="medical", number=0)),
        ("medical@" + "9" * 18, Reference(name="medical", number=int("9" * 18))),
        ("medical@" + "0" * 30 + "3", Reference(name="medical", number=3)),
        ("medical@production", Reference(name="medical", alias="production")),
        ("medical@3a", Reference(name="medical", alias="3a")),
        (DIGEST, Reference(digest=Digest.parse(DIGEST))),
    ],
)
def test_a_reference_is_read(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected


_NAME = "expected 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', the first a letter or digit"
_ALIAS = "expected A-Z, a-z, 0-9, '.', '_' and '-', not digits alone"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"adapter name '': {_NAME}"),
        ("@3", f"adapter name '': {_NAME}"),
        ("-a", f"adapter name '-a': {_NAME}"),
        (".a", f"adapter name '.a': {_NAME}"),
        ("a b", f"adapter name 'a b': {_NAME}"),
        ("ä", f"adapter name 'ä': {_NAME}"),
        ("x" * 129, f"adapter name '{'x' * 60}'... (129 characters): {_NAME}"),
        ("medical@", f"alias '': {_ALIAS}"),
        ("medical@-1", f"alias '-1': {_ALIAS}"),
        ("medical@a@b", f"alias 'a@b': {_ALIAS}"),
        ("medical@٣", f"alias '٣': {_ALIAS}"),
        ("medical@" + "9" * 19, f"revision '{'9' * 19}': expected a number of at most 18 digits"),
    ],
)
def test_what_is_no_reference_is_refused(text: str, message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Reference.parse(text)
    assert (caught.value.message, caught.value.problem_code, caught.value.exit_code) == (message, "name", 8)


@pytest.mark.parametrize("text", ["sha256:", "sha256:" + "AB" * 32, DIGEST + "0", DIGEST + "@1"])
def test_what_starts_like_a_digest_must_be_one(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        Reference.parse(text)
    assert caught.value.message == f"digest {text!r}: expected 'sha256:' and 64 lower-case hexadecimal digits"
    assert caught.value.hint is None


@pytest.mark.parametrize("text", ["tour/triage.air", "./a", "a b.air", "C:\\\\a"])
def test_a_path_is_no_reference_but_its_digest_is(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        Reference.parse(text)
    assert caught.value.hint == "a file is named by its digest here, which 'ual show FILE' tells"


def test_a_digest_as_the_tables_cut_it_is_refused_with_the_way_to_the_whole_one() -> None:
    with pytest.raises(FormatError) as caught:
        Reference.parse("sha256:52beaf9e236f")
    assert caught.value.hint == "'ual search digest:52beaf9e236f --json' finds the whole one"


def test_names_that_are_allowed_come_back() -> None:
    assert (check_name("a.b"), check_alias("v1.2")) == ("a.b", "v1.2")


@pytest.fixture
def three(registry: Registry, files: Files) -> Registry:
    """One adapter of three revisions."""
    for _ in range(3):
        registry.add(files.make(), name="medical")
    return registry


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("none", "adapter 'none': not in this registry", "this registry holds: medical"),
        ("none@1", "adapter 'none': not in this registry", "this registry holds: medical"),
        ("medical@9", "adapter 'medical' has no revision 9 (newest: 3)", None),
        ("medical@0", "adapter 'medical' has no revision 0 (newest: 3)", None),
        ("medical@none", "adapter 'medical' has no alias 'none' (known: a, b)", None),
        (DIGEST, f"{DIGEST}: no such artifact in this registry", None),
    ],
)
def test_what_is_not_there_is_told_of(three: Registry, reference: str, message: str, hint: str | None) -> None:
    three.alias("medical", "b", "1")
    three.alias("medical", "a", "1")
    with pytest.raises(RegistryNotFoundError) as caught:
        three.resolve(reference)
    assert (caught.value.message, caught.value.hint, caught.value.problem_code) == (message, hint, "not-found")


def test_an_empty_registry_says_how_to_fill_it(registry: Registry) -> None:
    with pytest.raises(RegistryNotFoundError) as caught:
        registry.resolve("medical")
    assert caught.value.hint == "this registry is empty: see 'ual add'"


def test_an_adapter_without_aliases_says_so(three: Registry) -> None:
    with pytest.raises(RegistryNotFoundError) as caught:
        three.resolve("medical@production")
    assert caught.value.message == "adapter 'medical' has no alias 'production' (known: none)"
    assert caught.value.context == {"name": "medical", "alias": "production"}


def log(registry: Registry) -> list[dict[str, object]]:
    with registry.database.session() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action == "alias").order_by(AuditRow.id)).all()
    assert {row.adapter_name for row in rows} <= {"medical"}
    return [row.detail for row in rows]


def test_an_alias_moves_and_every_move_is_logged(three: Registry) -> None:
    before = datetime.datetime.now(datetime.UTC)
    assert three.alias("medical", "production", "1") == AliasMove(
        name="medical", alias="production", previous=None, number=1
    )
    assert three.alias("medical", "production", "3") == AliasMove(
        name="medical", alias="production", previous=1, number=3
    )
    assert three.alias("medical", "candidate", "production") == AliasMove(
        name="medical", alias="candidate", previous=None, number=3
    )
    assert [record.aliases for record in three.revisions("medical")] == [("candidate", "production"), (), ()]
    assert log(three) == [
        {"alias": "production", "previous": None, "number": 1},
        {"alias": "production", "previous": 1, "number": 3},
        {"alias": "candidate", "previous": None, "number": 3},
    ]
    times = [entry.at for entry in three.log()][::-1]
    assert times == sorted(times)
    assert times[-1] >= before


def test_the_expected_revision_lets_an_alias_move(three: Registry) -> None:
    assert three.alias("medical", "production", "1", expected=0).previous is None
    assert three.alias("medical", "production", "2", expected=1).previous == 1


@pytest.mark.parametrize(
    ("expected", "set_to", "found"), [(2, "1", "on revision 1"), (0, "1", "on revision 1"), (1, None, "nowhere")]
)
def test_another_revision_than_expected_is_a_conflict_and_changes_nothing(
    three: Registry, expected: int, set_to: str | None, found: str
) -> None:
    if set_to:
        three.alias("medical", "production", set_to)
    before = (log(three), three.revisions("medical"))

    with pytest.raises(RegistryConflictError) as caught:
        three.alias("medical", "production", "3", expected=expected)

    assert caught.value.message == (f"adapter 'medical' has alias 'production' {found} (expected revision {expected})")
    assert caught.value.hint == "read it again and retry"
    number = int(set_to) if set_to else None
    assert caught.value.context == {"name": "medical", "alias": "production", "found": number, "expected": expected}
    assert (log(three), three.revisions("medical")) == before


@pytest.mark.parametrize(
    ("name", "alias", "revision", "message"),
    [
        ("none", "production", "1", "adapter 'none': not in this registry"),
        ("medical", "production", "9", "adapter 'medical' has no revision 9 (newest: 3)"),
        ("medical", "production", "nowhere", "adapter 'medical' has no alias 'nowhere' (known: none)"),
        ("medical", "3", "1", f"alias '3': {_ALIAS}"),
        ("medical", "production", "", f"alias '': {_ALIAS}"),
        ("a b", "production", "1", f"adapter name 'a b': {_NAME}"),
    ],
)
def test_an_alias_that_cannot_be_set_changes_nothing(
    three: Registry, name: str, alias: str, revision: str, message: str
) -> None:
    with pytest.raises(RegistryError) as caught:
        three.alias(name, alias, revision)
    assert caught.value.message == message
    assert log(three) == []
