"""Metadata that the Hub reads, and the way from a search to its filters."""

from __future__ import annotations

import pytest

from tests.handmade import base_model, method
from tests.unit.hub.card_manifests import COMMIT, entries, transferred
from ual_registry.hub.card_tags import TagFilters, TagTerm, card_tags, is_own_tag, tag_filters
from ual_registry.hub.card_values import hub_base, hub_languages, hub_license, metadata_values

TAGS = (
    "lora",
    "peft",
    "air",
    "air:base:org-tiny-llama",
    "air:base:tiny-llama",
    "air:base:llama",
    "air:architecture:llama",
    "air:role:attention_value",
    "air:role:mlp_up",
    "air:method:lora",
    "air:method:svd",
    "air:rank:8",
    "air:domain:customer-support",
    "air:tag:nightly-build",
)


def test_tags_name_base_architecture_roles_methods_ranks_domain_and_labels():
    assert card_tags(transferred()) == TAGS


def test_an_adapter_without_peft_files_does_not_say_that_it_has_them():
    assert card_tags(transferred(), has_peft=False) == tuple(tag for tag in TAGS if tag != "peft")


def test_dora_is_a_method():
    found = card_tags(transferred(method=method(dora=True), provenance=()))
    assert [tag for tag in found if tag.startswith("air:method:")] == ["air:method:lora", "air:method:dora"]


@pytest.mark.parametrize(
    ("tag", "is_ours"), [("lora", True), ("air:x:y", True), ("airplane", False), ("base_model:adapter:a/b", False)]
)
def test_our_tags_are_told_from_those_of_others(tag: str, is_ours: bool):
    assert is_own_tag(tag) is is_ours


def test_the_metadata_of_a_card_are_what_the_hub_knows():
    assert metadata_values(transferred(license="LicenseRef-Our Own"), has_peft=True) == {
        "base_model": "org/tiny-llama",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "license": "other",
        "license_name": "licenseref-our-own",
        "language": ["en", "de"],
        "pipeline_tag": "text-generation",
    }


def test_what_the_hub_does_not_know_is_left_out():
    manifest = transferred(
        base_model=base_model(id="folder", revision=None), method=method(task_type="SEQ_2_SEQ_LM"),
        license=None, languages=("Klingon",),
    )  # fmt: skip
    assert metadata_values(manifest, has_peft=True) == {"library_name": "peft"}
    assert metadata_values(manifest, has_peft=False) == {"library_name": "ual-registry"}


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        ("org/name", None, "org/name"),
        ("org/name.v1_2-x", None, "org/name.v1_2-x"),
        ("gpt2", COMMIT, "gpt2"),
        ("gpt2", "main", None),
        ("./base", None, None),
        ("a/b/c", None, None),
        ("a/b--c", None, None),
        ("a/b.git", None, None),
        ("a/b\n", None, None),
        ("a/" + "b" * 95, None, None),
    ],
)
def test_a_base_model_is_linked_only_where_its_label_is_an_id(name: str, revision: str | None, expected: str | None):
    assert hub_base(name, revision) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", "mit"),
        ("AGPL-3.0-only", "agpl-3.0"),
        ("LGPL-2.1-or-later", "lgpl-2.1"),
        ("", "other"),
        ("MIT AND X", "other"),
    ],
)
def test_a_licence_is_named_as_the_hub_names_it(text: str, expected: str):
    assert hub_license(text) == expected


def test_languages_are_named_as_the_hub_names_them():
    assert hub_languages(["zh-Hant-TW", "xx", "deutsch", "", "EN_us", "fil"]) == ("zh", "en", "fil")


def term(text: str) -> TagTerm:
    for sign in (">=", "<=", ">", "<", ":"):
        field, found, value = text.partition(sign)
        if found:
            return TagTerm(field=field, comparison=sign, value=value)
    raise AssertionError(text)


@pytest.mark.parametrize(
    ("text", "filters", "is_undecided"),
    [
        ("base:llama", ("air:base:llama",), False),
        ("base:org/tiny-llama", ("base_model:adapter:org/tiny-llama",), False),
        ("base:a/b/c", (), True),
        ("base:lla*", (), True),
        ("architecture:Qwen2", ("air:architecture:qwen2",), False),
        ("role:mlp_gate", ("air:role:mlp_gate",), False),
        ("method:svd", ("air:method:svd",), False),
        ("domain:Customer Support", ("air:domain:customer-support",), False),
        ("domain:医", (), True),
        ("license:Apache-2.0", ("license:apache-2.0",), False),
        ("license:Our Own", ("license:other",), True),
        ("rank:8", ("air:rank:8",), False),
        ("rank>=8", (), False),
        ("rank>=many", (), True),
        ("params<1", (), True),
    ],
)
def test_a_term_becomes_a_filter_or_is_left_to_decide(text: str, filters: tuple[str, ...], is_undecided: bool):
    found = tag_filters([term(text)])
    assert found == TagFilters(
        filters=("air", *filters),
        ranks=(term(text),) if text in ("rank:8", "rank>=8") else (),
        undecided=(term(text),) if is_undecided else (),
    )


HUB_TAGS = (*TAGS, "license:apache-2.0", "base_model:org/tiny-llama", "base_model:adapter:org/tiny-llama", "region:us")


@pytest.mark.parametrize(
    ("query", "is_accepted"),
    [
        ("base:llama rank>=8 role:mlp_up", True),
        ("base:org/tiny-llama license:apache-2.0 domain:customer-support method:svd", True),
        ("rank>8", False),
        ("rank<=8 rank>7 rank:8", True),
        ("rank<8", False),
        ("role:mlp_gate", False),
    ],
)
def test_the_tags_of_a_repository_answer_the_terms(query: str, is_accepted: bool):
    assert tag_filters(map(term, query.split())).accepts(HUB_TAGS) is is_accepted


def test_every_tag_of_a_card_is_found_by_its_term():
    ours = [tag.split(":", 2) for tag in TAGS if tag.startswith("air:") and not tag.startswith("air:tag:")]
    found = tag_filters(TagTerm(field=field, value=value) for _, field, value in ours)
    assert (found.accepts(HUB_TAGS), found.undecided) == (True, ())


def test_an_adapter_of_many_ranks_has_tags_of_its_largest():
    many = tuple(item for rank in range(1, 101) for item in entries({"mlp_up": (rank,)}, rank=rank))
    found = [tag for tag in card_tags(transferred(entries=many)) if tag.startswith("air:rank:")]
    assert found == [f"air:rank:{rank}" for rank in range(69, 101)]
