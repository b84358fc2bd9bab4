"""The card as a whole: what it says, and what it leaves alone when it is made again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.handmade import base_model, method
from tests.unit.hub.card_manifests import card_of, entries, statement, training, transferred
from ual_registry.air.schema import load_schema
from ual_registry.errors import HubError
from ual_registry.hub.card import BEGIN, END
from ual_registry.hub.card_evidence import CONTROLS
from ual_registry.hub.card_facts import _APART, _LABELS
from ual_registry.hub.card_front import split_front
from ual_registry.transfers.rungs import RUNGS

DATA = Path(__file__).parent / "data"
MADE = card_of(transferred())
PART = MADE[MADE.index(BEGIN) : MADE.index(END) + len(END)]


def test_the_card_of_a_transferred_adapter_tells_everything_that_is_recorded():
    assert (DATA / "transferred.md").read_text(encoding="utf-8") == MADE


def test_the_card_of_a_bare_adapter_says_what_is_not_recorded():
    manifest = transferred(
        base_model=base_model(id="folder", revision=None),
        entries=entries({"mlp_up": (0,), "lm_head": (0,)}),
        **dict.fromkeys(("name", "description", "domain", "license", "lineage", "created_at")),
        **dict.fromkeys(("tags", "languages", "provenance"), ()),
    )
    made = card_of(manifest, has_peft=False, picture=None)
    assert (DATA / "bare.md").read_text(encoding="utf-8") == made


def test_every_fact_that_a_statement_can_hold_has_a_name_for_people():
    definitions = load_schema("1.0/provenance.json")["$defs"]
    parts = (kind["properties"][part] for kind in definitions.values() for part in ("parameters", "byproducts"))
    assert {name for part in parts for name in part["properties"]} - _LABELS.keys() - _APART == set()


def test_a_training_that_held_nothing_out_says_so():
    bare = statement("training", parameters={"steps": 1, "seed": 0}, byproducts={"verdict": "not measured"})
    made = card_of(transferred(provenance=(bare,)))
    assert "**Verdict: not measured; no examples were held out.**\n\n| What | Value |" in made
    assert "nothing here says how well it works. Measure it before you rely on it." in made


def test_a_training_alone_is_not_taken_for_an_evaluation():
    made = card_of(transferred(provenance=(training(),)))
    assert (
        "No evaluation is recorded: nothing here says how well it works beyond the loss on what was held out of the "
        "training. Measure it before you rely on it." in made
    )


@pytest.mark.parametrize("existing", ["", "\n", None])
def test_a_new_card_has_a_title_that_people_can_change(existing: str | None):
    made = card_of(transferred(), existing)
    assert made.endswith(f"# triage\n\n{PART}\n")
    changed = made.replace("# triage\n", "# Our triage\n\nHello.\n")
    assert card_of(transferred(), changed) == changed


def test_what_people_wrote_around_the_part_stays_and_the_part_is_made_anew():
    front = MADE[: MADE.index("# triage")]
    before, after = "# Ours\r\n\ttabs  \n\n```\ncode\n```\n", "  \n## Contact\n\nmail  \n\n"
    old = f"{front}{before}{BEGIN}\nstale\n{END}{after}"
    assert card_of(transferred(), old) == f"{front}{before}{PART}{after}"


@pytest.mark.parametrize(
    ("body", "gap"), [("Hello.", "\n\n"), ("Hello.\n", "\n"), ("Hello.\n\n", ""), ("---\na: b", "\n\n")]
)
def test_the_part_follows_what_a_card_without_one_says(body: str, gap: str):
    made = card_of(transferred(), f"---\nlicense: mit\n---\n{body}")
    assert made.endswith(f"---\n{body}{gap}{PART}\n")
    assert card_of(transferred(), made) == made


def test_a_card_without_metadata_gets_some_and_keeps_its_text():
    made = card_of(transferred(), "\ufeffHello.\n")
    front = MADE[: MADE.index("\n# triage")]
    assert made == f"\ufeff{front}\nHello.\n\n{PART}\n"
    assert card_of(transferred(), made) == made


def test_a_card_with_windows_line_ends_keeps_them():
    existing = "---\r\nlicense: mit\r\ncustom: 1\r\n---\r\nHello.\r\n"
    made = card_of(transferred(), existing)
    assert made.startswith("---\r\nlicense: apache-2.0\r\ncustom: 1\r\nbase_model: org/tiny-llama\r\n")
    assert made.replace("\r\n", "") == made.replace("\r\n", "").replace("\n", "").replace("\r", "")
    assert made.replace("\r\n", "\n").endswith(f"---\nHello.\n\n{PART}\n")
    assert card_of(transferred(), made) == made


def test_a_change_of_the_adapter_changes_its_part_and_its_tags():
    made = card_of(transferred(), MADE.replace("tags:\n", "tags:\n- mine\n"))
    updated = card_of(transferred(domain="law", license=None), made)
    assert "- mine\n- lora\n" in updated
    assert ("- air:domain:law\n" in updated, "customer" in updated) == (True, False)
    assert "license: apache-2.0\n" in updated  # nothing is recorded now, so what stands there stays


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"{BEGIN}\ntext", f"README.md: the mark '{END}' is missing"),
        (f"{END}\ntext", f"README.md: the mark '{BEGIN}' is missing"),
        (f"{BEGIN} {BEGIN} {END}", f"README.md: the mark '{BEGIN}' is there 2 times"),
        (f"{BEGIN} {END} {END} {END}", f"README.md: the mark '{END}' is there 3 times"),
        (f"{END}\n{BEGIN}", f"README.md: the mark '{END}' stands before '{BEGIN}'"),
        ("<!--ual:begin-->", f"README.md: the mark '{END}' is missing"),
    ],
)
def test_broken_marks_are_refused_with_what_to_mend(body: str, message: str):
    with pytest.raises(HubError) as caught:
        card_of(transferred(), body)
    assert (caught.value.message, caught.value.problem_code) == (message, "hub-card")
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("or take both away; nothing was changed")


@pytest.mark.parametrize("path", ["a\nb.air", "<!-- ual:end -->.air", "a`b.air", "a|b.air", ""])
def test_a_path_that_no_card_can_hold_is_refused(path: str):
    with pytest.raises(HubError) as caught:
        card_of(transferred(), air_path=path)
    assert caught.value.message == f"path {path!r}: has signs that a card cannot hold"


def test_an_adapter_in_a_subfolder_is_loaded_from_there():
    made = card_of(transferred(), air_path="per team/legal/adapter.air", picture="per team/legal/adapter.png")
    wanted = [
        "[`per team/legal/adapter.air`](per%20team/legal/adapter.air)",
        "](per%20team/legal/adapter.png)",
        'model = PeftModel.from_pretrained(base, "org/triage", subfolder="per team/legal")',
        "ual pull org/triage --file 'per team/legal/adapter.air' --name legal",
        "--lora-modules legal='./legal/per team/legal'",
    ]
    assert [text for text in wanted if text not in made] == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": method(dora=True)}, "vLLM does not load DoRA adapters; merge it into the base model first."),
        ({"entries": entries({"mlp_up": (0,)}, rank=1024)}, "vLLM loads adapters up to rank 512; this one has 1024."),
        ({"entries": entries({"mlp_up": (0,)}, rank=17)}, "--enable-lora --max-lora-rank 32 "),
        ({"method": method(bias="all")}, "or trained biases, which vLLM may refuse."),
        ({"method": method(task_type="SEQ_CLS")}, "import AutoModelForSequenceClassification"),
        ({"method": method(task_type=None)}, "import AutoModel\n"),
        ({"provenance": (statement("merge", parameters={"method": "ties", "weights": (0.5, 0.5)}),)}, "`[0.5, 0.5]`"),
        ({"provenance": (statement("conversion", parameters={"from_format": "x"}, byproducts={"lost": ("a", "b")}),)},
         "| lost on the way | a<br>b |"),
        ({"provenance": (statement("projection", parameters={"method": "svd"}, byproducts={"dropped": 0}),)},
         "No entry was dropped."),
    ],
)  # fmt: skip
def test_special_cases_are_told(changes: dict[str, object], sentence: str):
    assert sentence in card_of(transferred(**changes))


def test_tables_of_long_evidence_are_cut_and_say_so():
    result = {"metric": "m", "value": 1, "n": 1, "data_digest": "sha256:" + "5" * 64, "arm": "adapter"}
    many = statement("evaluation", byproducts={"results": (result,) * 150})
    made = card_of(transferred(provenance=(many,)))
    assert made.count("| m | adapter |") == 100
    assert "| and 50 more |  |  |  |  |  |  |" in made


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40)
LINES = st.lists(st.one_of(TEXTS, st.sampled_from(["---", "# Title", "", "```", "- a", "<!-- x -->"])), max_size=6)


@given(LINES.map("\n".join), st.booleans())
def test_making_a_card_from_its_own_result_changes_nothing(text: str, is_windows: bool):
    existing = text.replace("\n", "\r\n") if is_windows else text
    try:
        made = card_of(transferred(), existing)
    except HubError as error:
        assert error.problem_code == "hub-card"  # noqa: PT017  # such a text looks like broken metadata
        return
    assert card_of(transferred(), made) == made
    assert split_front(existing)[1].strip() in made
    bare = dataclasses.replace(transferred(), provenance=(), lineage=None)
    assert card_of(transferred(), card_of(bare, made)) == made


@pytest.mark.parametrize("method", RUNGS)
def test_the_card_says_of_a_control_that_it_carries_nothing(method: str) -> None:
    made = card_of(transferred(provenance=(statement("projection", parameters={"method": method}),)))
    told = f"**`{method}` is a control.** Between base models that were trained apart it carries nothing"
    assert (told in made) is RUNGS[method].is_control
    assert (method in CONTROLS) is RUNGS[method].is_control
