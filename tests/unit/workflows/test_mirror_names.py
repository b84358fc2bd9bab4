"""What a mirrored adapter is called leads back to where it came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ual_registry.errors import HubError, RegistryError
from ual_registry.workflows.mirror_names import name_here, place_there, take_name

WORDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_]{0,8}[A-Za-z0-9])?", fullmatch=True)
REPOSITORY = st.from_regex(r"[A-Za-z0-9]{1,6}([._-][A-Za-z0-9]{1,6}){0,2}", fullmatch=True).filter(
    lambda name: not name.endswith(".git")
)


@pytest.mark.parametrize(
    ("path", "is_only", "name"),
    [
        ("adapter.air", True, "org.medical"),
        ("adapter_model.safetensors", True, "org.medical"),
        ("medical.air", True, "org.medical"),
        ("medical.air", False, "org.medical--medical"),
        ("sub/adapter.air", True, "org.medical--sub"),
        ("sub/deep/adapter_model.safetensors", False, "org.medical--sub--deep"),
        ("sub/fast.air", False, "org.medical--sub--fast"),
        ("a -- b/adapter.air", False, "org.medical--a-b"),
        ("über/adapter.air", False, "org.medical--ber"),
    ],
)
def test_a_name_is_made_of_repository_and_folder(path: str, is_only: bool, name: str) -> None:
    assert name_here("org/medical", path, is_only=is_only) == name


@given(owner=WORDS, name=REPOSITORY, folders=st.lists(WORDS, max_size=3), is_only=st.booleans())
def test_a_name_leads_back_to_its_place(owner: str, name: str, folders: list[str], is_only: bool) -> None:
    path = "/".join([*folders, "adapter.air"])
    made = name_here(f"{owner}/{name}", path, is_only=is_only)
    assert place_there(made, owner) == (f"{owner}/{name}", "/".join(folders) or None)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("medical", ("org/medical", None)),
        ("other.medical", ("org/other.medical", None)),
        ("org.org.medical", ("org/org.medical", None)),
        ("medical--v1", ("org/medical", "v1")),
    ],
)
def test_a_name_of_ones_own_has_a_place_too(name: str, place: tuple[str, str | None]) -> None:
    assert place_there(name, "org") == place


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("a..b", "org/a..b"),
        ("a.", "org/a."),
        ("a.git", "org/a.git"),
        ("a--", "org/a"),
        ("x" * 93, f"org/{'x' * 93}"),
    ],
)
def test_a_name_that_the_hub_does_not_allow_is_refused(name: str, repository: str) -> None:
    with pytest.raises(HubError) as caught:
        place_there(name, "org")
    assert caught.value.message == f"{name}: no repository of the Hub may be called {repository!r}"
    assert caught.value.problem_code == "hub-address"


def test_two_that_would_be_called_the_same_are_told() -> None:
    with pytest.raises(RegistryError) as caught:
        take_name("org/m", "a!b/adapter.air", {"org.m--a-b": "a b/adapter.air"}, is_only=False)
    assert caught.value.message == ("org/m: a b/adapter.air and a!b/adapter.air would both be called 'org.m--a-b'")
