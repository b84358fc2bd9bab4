"""The commands about binders: what they print, what they leave, and what they answer to mistakes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Ual
from ual_registry.binders.load import BINDERS_VARIABLE, decode_binder, find_binder, known_model_types, load_binders
from ual_registry.binders.model import Condition, Module, Norms
from ual_registry.cli.binder_report import inferred_text, report_text
from ual_registry.cli.binder_words import blocks_text, conditions_text, existence_text, ways_text
from ual_registry.cli.block import draw_block
from ual_registry.tracing.check import BinderCheck
from ual_registry.tracing.gather import Undecided
from ual_registry.tracing.infer import Evidence, InferredBinder
from ual_registry.workflows.binders import show_binder
from ual_registry.workflows.check_binder import BinderReport

pytestmark = pytest.mark.filterwarnings("ignore")  # what transformers remarks on odd sizes

TEXTS = Path(__file__).parents[2] / "data" / "binders"
"""What ``ual binder show`` prints, each file looked at line by line."""

DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": 16,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "vocab_size": 64,
    "q_lora_rank": None,
    "kv_lora_rank": 5,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 3,
    "n_routed_experts": 3,
    "moe_intermediate_size": 7,
    "n_shared_experts": 1,
    "first_k_dense_replace": 2,
}


@pytest.mark.parametrize("name", ["gpt_neox", "mixtral", "qwen2_moe", "t5", "deepseek_v3", "bert", "mamba"])
def test_a_binder_is_drawn_and_listed(ual: Ual, name: str) -> None:
    result = ual("binder", "show", name)
    assert (result.code, result.err) == (0, "")
    assert result.out == (TEXTS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["gpt2", "gpt_oss"])
def test_names_in_gguf_are_shown_where_more_is_asked_for(ual: Ual, name: str) -> None:
    assert ual("binder", "show", "-v", name).out == (TEXTS / f"{name}-gguf.txt").read_text(encoding="utf-8")


def test_a_model_is_shown_with_its_dimensions_and_its_blocks(ual: Ual, folder: Path) -> None:
    (folder / "base" / "config.json").write_text(json.dumps(DEEPSEEK))
    expected = (TEXTS / "deepseek_v3-config.txt").read_text(encoding="utf-8")
    assert ual("binder", "show", "base").out == expected
    assert ual("binder", "show", "base/config.json").out == expected


@pytest.mark.parametrize("name", ["gpt_oss", "t5", "mixtral"])
def test_the_document_of_a_shown_binder_is_the_shipped_one(ual: Ual, name: str) -> None:
    shown = ual("binder", "show", name, "--json").document
    binder = decode_binder(json.dumps(shown.pop("binder")).encode(), what=name)
    assert binder == find_binder(name)
    assert shown == {"model_type": name, "base_model": None}


def test_the_document_of_a_shown_model_describes_it(ual: Ual) -> None:
    shown = ual("binder", "show", "base", "--json").document
    assert (shown["model_type"], shown["binder"]["architecture"]) == ("llama", "llama")
    digest = shown["base_model"].pop("config_digest")
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
    assert shown["base_model"] == {
        "id": "base",
        "architecture": "llama",
        "model_type": "llama",
        "vocab_size": 5,
        "stacks": [
            {
                "hidden_size": 4,
                "num_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 2,
                "intermediate_size": 6,
            }
        ],
    }


def test_a_document_of_the_user_is_shown_for_its_first_type(ual: Ual, folder: Path) -> None:
    document = own_document()
    (folder / "own.json").write_text(json.dumps(document))
    assert ual("binder", "show", "own.json").out.splitlines()[:4] == [
        "own  binder 1.0",
        "model types  own",
        "shown for    own: OwnModel",
        "rotary       none",
    ]
    shown = ual("binder", "show", "own.json", "--json").document["binder"]
    assert [module["path"] for module in shown["stacks"][0]["modules"]] == ["up", "down"]


def own_document(**changes: Any) -> dict[str, Any]:
    return {
        "binder_version": "1.0",
        "architecture": "own",
        "model_types": {"own": {"default_class": "OwnModel", "classes": {"": ["OwnModel"]}}},
        "vocab_size": ["vocab_size"],
        "rotary": {"style": "none"},
        "norms": {"kind": "rms", "position": "pre"},
        "stacks": [
            {
                "path": "blocks.{layer}.",
                "dimensions": {
                    "hidden_size": ["hidden_size"],
                    "num_layers": ["num_layers"],
                    "intermediate_size": ["intermediate_size"],
                },
                "modules": [{"path": "up", "roles": ["mlp_up"]}, {"path": "down", "roles": ["mlp_down"]}],
            }
        ],
        "outer": [],
        "without_role": [],
        **changes,
    }


def test_every_binder_is_listed_with_its_types(ual: Ual) -> None:
    lines = ual("binder", "list").out.splitlines()
    assert lines[:3] == [
        "architecture     model types",
        "albert           albert",
        "aya_vision       aya_vision, cohere2_vision",
    ]
    assert lines[-1] == f"{len(load_binders())} binders for {len(known_model_types())} model types"
    words = set(re.split(r"[\s,]+", " ".join(lines)))
    assert [name for name in known_model_types() if name not in words] == []
    assert max(map(len, lines)) <= 110


def test_the_document_of_the_list_sums_every_binder_up(ual: Ual) -> None:
    found = ual("binder", "list", "--json").document["binders"]
    assert [item["architecture"] for item in found] == [binder.architecture for binder in load_binders()]
    assert next(item for item in found if item["architecture"] == "t5") == {
        "architecture": "t5",
        "model_types": ["t5", "mt5", "umt5", "longt5", "pop2piano"],
        "stacks": 2,
        "roles": [
            *("attention_query", "attention_key", "attention_value", "attention_output"),
            *("mlp_up", "mlp_gate", "mlp_down"),
            *(f"cross_attention_{part}" for part in ("query", "key", "value", "output")),
        ],
        "fused": 0,
        "rotary": dict.fromkeys(("t5", "mt5", "umt5", "longt5", "pop2piano"), "none"),
    }


@pytest.mark.parametrize("model_type", known_model_types())
def test_every_role_that_a_type_has_by_default_is_drawn_and_no_other(model_type: str) -> None:
    shown = show_binder(model_type)
    for stack in shown.binder.stacks:
        modules = [
            module for module in stack.modules if module.edition in {None, shown.editions[0]} and shown.holds(module)
        ]
        lines = list(draw_block(modules, shown.binder.norms_of(model_type), lambda _: ""))
        drawn = set(re.findall(r"[a-z]+(?:_[a-z]+)+", "\n".join(lines)))
        assert drawn == {role for module in modules for role in module.roles}
        assert max(map(len, lines)) <= 132


DEFAULTS = (
    *("albert", "bert", "t5", "mt5", "umt5", "longt5", "pop2piano", "deberta", "deberta-v2", "falcon", "gpt_neox"),
    *("qwen2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "llama4_text", "jamba", "modernbert", "granitemoe"),
)


@pytest.mark.parametrize("model_type", DEFAULTS)
def test_what_is_drawn_by_default_is_what_the_default_config_of_transformers_has(model_type: str) -> None:
    from dataclasses import replace

    from ual_registry.tracing.check import default_config

    shown = show_binder(model_type)
    real = replace(shown, config=default_config(model_type))
    for stack in shown.binder.stacks:
        ours, theirs = (
            {
                (role, module.has_experts)
                for module in stack.modules
                if module.edition in {None, shown.editions[0]} and one.holds(module)
                for role in module.roles
            }
            for one in (shown, real)
        )
        assert ours == theirs


def linear(role: str, **fields: Any) -> Module:
    return Module(path=role, roles=(role,), **fields)


QUERY_TO_OUTPUT = tuple(linear(f"attention_{part}") for part in ("query", "key", "value", "output"))
UP_AND_DOWN = (linear("mlp_up"), linear("mlp_down"))
EXPERTS = tuple(linear(role, parameter="weight") for role in ("mlp_gate", "mlp_up", "mlp_down"))
SHARED = tuple(linear(f"shared_mlp_{part}") for part in ("up", "down"))
POSITIONS = tuple(linear(f"attention_position_{part}") for part in ("query", "key"))

DRAWINGS: dict[str, tuple[tuple[Module, ...], str, str]] = {
    "norms before": (
        (*QUERY_TO_OUTPUT, *UP_AND_DOWN),
        "pre",
        """
              +-- attention_query --+
  x -- norm --+-- attention_key   --+-- [attention] -- attention_output -- + -- x
              +-- attention_value --+

  x -- norm -- mlp_up -- [act] -- mlp_down -- + -- x
""",
    ),
    "norms after": (
        UP_AND_DOWN,
        "post",
        """
  x -- mlp_up -- [act] -- mlp_down -- [+, norm] -- x
""",
    ),
    "norms before and after": (
        UP_AND_DOWN,
        "both",
        """
  x -- norm -- mlp_up -- [act] -- mlp_down -- norm -- + -- x
""",
    ),
    "branches side by side": (
        (*QUERY_TO_OUTPUT, *UP_AND_DOWN, linear("mlp_gate")),
        "parallel",
        """
                 +-- attention_query --+
  x --+-- norm --+-- attention_key   --+-- [attention] -- attention_output --+-- + -- x
      |          +-- attention_value --+                                     |
      |                                                                      |
      |          +-- mlp_gate --+                                            |
      +-- norm --+-- mlp_up   --+-- [act(gate) * up] -- mlp_down ------------+
""",
    ),
    "one branch alone side by side": (
        UP_AND_DOWN,
        "parallel",
        """
  x -- norm -- mlp_up -- [act] -- mlp_down -- + -- x
""",
    ),
    "experts beside what every token goes through": (
        (*EXPERTS, *SHARED, linear("moe_router"), linear("shared_mlp_router")),
        "both",
        """
                 +-- mlp_gate --+
  x -- norm --+--+-- mlp_up   --+-- [act(gate) * up] -- mlp_down --+-- norm -- + -- x   each expert, weighted by moe_router
              |                                                    |
              +-- shared_mlp_up -- [act] -- shared_mlp_down -------+   every token, weighted by shared_mlp_router
""",  # noqa: E501
    ),
    "attention with keys of its own for positions": (
        (*QUERY_TO_OUTPUT, *POSITIONS),
        "post",
        """
      +-- attention_query --+
  x --+-- attention_key   --+-- [attention] -- attention_output -- [+, norm] -- x
      +-- attention_value --+
      inside [attention]: attention_position_query, attention_position_key
""",
    ),
    "attention of which only two parts are known": (
        (linear("attention_query"), linear("attention_value")),
        "pre",
        """
              +-- attention_query --+
  x -- norm --+-- attention_value --+-- [attention] -- + -- x
""",
    ),
    "nothing": ((), "pre", ""),
    "nothing side by side": ((), "parallel", ""),
}


@pytest.mark.parametrize("case", DRAWINGS)
def test_a_block_is_drawn(case: str) -> None:
    modules, position, expected = DRAWINGS[case]
    lines = list(draw_block(modules, Norms(kind="rms", position=position), lambda _: ""))
    assert "\n".join(lines) == expected.removeprefix("\n")


def test_a_drawing_says_when_a_way_exists() -> None:
    both = (*UP_AND_DOWN, linear("mlp_down", weight="conv1d"))
    marks = {"linear": "(1)", "conv1d": "(2)"}
    lines = list(draw_block(both, Norms(kind="rms", position="pre"), lambda module: marks[module.weight]))
    assert lines == ["  x -- norm -- mlp_up -- [act] -- mlp_down -- + -- x   (1) or (2)", ""]
    marks["conv1d"] = ""
    lines = list(draw_block(both, Norms(kind="rms", position="pre"), lambda module: marks[module.weight]))
    assert lines == ["  x -- norm -- mlp_up -- [act] -- mlp_down -- + -- x", ""]


def having(field: str, *values: Any) -> Condition:
    return Condition(field=field, values=values)


EXISTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "always": ({}, ""),
    "the type of a model": ({"when": (having("model_type", "a"),), "unless": (having("model_type", "b"),)}, ""),
    "when": ({"when": (having("a", True, None), having("b", "x", 1))}, "if a is true or null and b is x or 1"),
    "unless": ({"unless": (having("a", ["x", "y"]),)}, 'unless a is ["x", "y"]'),
    "an empty text": ({"when": (having("a", ""),)}, 'if a is ""'),
    "listed": ({"layers": ({"in": "a"},)}, "in blocks that a lists"),
    "not listed": ({"unless_layers": ({"not_in": "a"},)}, "except in blocks that a does not list"),
    "an item": ({"layers": ({"item_of": "a", "values": ["x"]},)}, "in blocks whose item of a is x"),
    "every": ({"layers": ({"every": 3},)}, "in blocks whose index is a multiple of 3"),
    "every, shifted": ({"layers": ({"every": "a", "shift": 1},)}, "in blocks whose index + 1 is a multiple of a"),
    "from": ({"layers": ({"from": "a"},)}, "in blocks whose index is at least a"),
    "before": ({"layers": ({"before": {"sum": ["a", 1]}},)}, "in blocks whose index is below (a + 1)"),
    "all of it": (
        {
            "when": (having("a", 1),),
            "unless": (having("b", 2),),
            "layers": ({"in": "c"}, {"from": 1, "before": 3}),
            "unless_layers": ({"every": 2},),
        },
        (
            "if a is 1, unless b is 2, in blocks that c lists and whose index is at least 1 and below 3, "
            "except in blocks whose index is a multiple of 2"
        ),
    ),
}


@pytest.mark.parametrize("case", EXISTENCES)
def test_when_a_module_exists_is_said_in_words(case: str) -> None:
    fields, expected = EXISTENCES[case]
    assert existence_text(linear("mlp_up", **fields)) == expected


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        (["a", 4, 0.25], "a or 4 or 0.25"),
        ([{"quotient": ["a", "b"]}], "a / b"),
        ([{"product": [{"sum": ["a", 1]}, 2]}, "b"], "(a + 1) * 2 or b"),
        ([{"item": ["a", 0]}], "a[0]"),
        ([{"when": [{"field": "a", "values": [True]}, {"sum": ["b", 1]}]}, "c"], "(b + 1 if a is true) or c"),
        (
            [
                {"when": [{"field": "model_type", "values": ["own"]}, {"sum": ["b", 1]}]},
                {"when": [{"field": "model_type", "values": ["other"]}, "c"]},
            ],
            "b + 1",
        ),
    ],
    ids=str,
)
def test_the_ways_to_a_number_are_said_in_words(ways: list[Any], expected: str) -> None:
    assert ways_text(ways, "own") == expected


def test_conditions_and_blocks_are_said_in_words() -> None:
    assert conditions_text(" if ", ()) == ""
    assert blocks_text((0, 1, 2, 5, 7, 8)) == "0-2, 5, 7-8"
    assert blocks_text(()) == ""


def document_with_all_facts(document: dict[str, Any]) -> None:
    document["rotary"] = {"style": "half", "fraction": [0.5], "when": [{"field": "alibi", "values": [False]}]}
    document["norms"] = {"kind": "layer", "position": "both", "query_key": True}
    document["model_types"]["own"]["gguf"] = "own"
    document["tied"] = [
        {"roles": ["token_embedding", "lm_head"], "when": [{"field": "model_type", "values": ["other"]}]},
        {"roles": ["token_embedding", "lm_head"], "when": [{"field": "model_type", "values": ["own"]}]},
    ]
    document["outer"] = [
        {"path": "embed", "role": "token_embedding", "within": "backbone"},
        {
            "path": "head",
            "role": "lm_head",
            "within": "model",
            "when": [{"field": "has_head", "values": [True]}],
        },
    ]
    document["model_types"]["own"]["classes"] = {"model.": ["OwnModel"]}


def test_what_holds_for_the_whole_model_stands_above_and_below_the_blocks(ual: Ual, folder: Path) -> None:
    document = own_document()
    document_with_all_facts(document)
    (folder / "own.json").write_text(json.dumps(document))
    lines = ual("binder", "show", "own.json").out.splitlines()
    assert lines[2:8] == [
        "shown for    own: OwnModel, GGUF own",
        "rotary       half, fraction 0.5, if alibi is false",
        "norms        layer, both: before and after each branch; query and key have their own",
        "tied         token_embedding and lm_head",
        "",
        "one block, model.blocks.{layer}.",
    ]
    assert lines[-3:] == [
        "outside the blocks",
        "  token_embedding  model.embed",
        "  lm_head          head if has_head is true",
    ]


def test_a_module_outside_the_blocks_is_told_with_the_edition_that_it_is_of(ual: Ual) -> None:
    lines = ual("binder", "show", "mllama").out.splitlines()
    assert "editions     transformers-5, transformers-4.51" in lines
    assert lines[-3:] == [
        "outside the blocks",
        "  lm_head          lm_head in transformers-5",
        "  lm_head          language_model.lm_head in transformers-4.51",
    ]
    assert [line for line in lines if line.startswith("other modules")] == []


def inferred(undecided: tuple[Undecided, ...] = ()) -> InferredBinder:
    seen = {"mlp_gate": "its result passes an activation", "mlp_up": "its result is multiplied"}
    evidence = Evidence(path="layers.{layer}.gate_up", seen=seen, layers=(0, 1), confidence=0.8)
    return InferredBinder(document={"architecture": "own"}, evidence=(evidence,), confidence=0.8, undecided=undecided)


SEEN = """\
own  confidence 0.8

module                  role      seen                             confidence
layers.{layer}.gate_up  mlp_gate  its result passes an activation  0.8
layers.{layer}.gate_up  mlp_up    its result is multiplied         0.8
"""


def test_an_inferred_binder_is_told_with_what_was_seen() -> None:
    assert inferred_text(inferred(), None) == (
        f"{SEEN}\nnothing written; -o FILE writes the document; "
        "`ual binder show FILE` draws it, `ual binder check FILE` checks it"
    )
    undecided = (Undecided(what="norms", reason="there are none"),)
    assert inferred_text(inferred(undecided), "own.json") == (
        f"{SEEN}\nnot decided\n  norms: there are none\n\nwrote own.json; "
        "`ual binder show own.json` draws it, `ual binder check own.json` checks it"
    )


def outcome(name: str, subject: str, *faults: str, undecided: str | None = None) -> BinderCheck:
    return BinderCheck(name=name, subject=subject, faults=faults, undecided=undecided)


def test_checks_that_hold_share_a_line_and_others_say_what_is_wrong() -> None:
    report = BinderReport(
        architecture="own",
        checks=(
            outcome("law", "own, OwnModel"),
            outcome("modules", "own, OwnModel", "a: missing", "b: missing"),
            outcome("coverage", "own, OwnModel"),
            outcome("law", "own, Other", "c: twice"),
            outcome("function", "own, OwnModel", undecided="it cannot be run"),
        ),
    )
    assert report_text(report) == "\n".join(
        [
            "ok    own, OwnModel: law, coverage",
            "FAIL  own, OwnModel: modules",
            "        a: missing",
            "        b: missing",
            "FAIL  own, Other: law",
            "        c: twice",
            "?     own, OwnModel: function not checked",
            "        it cannot be run",
            "",
            "binder own: 5 checks, 3 faults, 1 not checked",
        ]
    )


def test_an_inferred_binder_is_written_and_checked(ual: Ual, folder: Path) -> None:
    result = ual("binder", "infer", "base", "-o", "my.json")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "llama  confidence 1"
    assert [" ".join(line.split()) for line in lines[1:4]] == [
        "",
        "module role seen confidence",
        "model.layers.{layer}.self_attn.q_proj attention_query its result reaches the query of attention 1",
    ]
    document = json.loads((folder / "my.json").read_bytes())
    assert (document["binder_version"], document["architecture"]) == ("1.0", "llama")

    checked = ual("binder", "check", "my.json", "--base", "base")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out.splitlines()[0] == "ok    llama, LlamaModel: law, modules, coverage"
    assert checked.out.splitlines()[-1] == "binder llama: 16 checks, 0 faults"

    document["stacks"][0]["modules"][0]["roles"] = ["attention_value"]
    (folder / "wrong.json").write_text(json.dumps(document))
    wrong = ual("binder", "check", "wrong.json", "--base", "base", "--json")
    assert (wrong.code, wrong.err) == (4, "")
    assert wrong.document["architecture"] == "llama"
    assert wrong.document["checks"][0] == {
        "name": "law",
        "subject": "llama, LlamaModel",
        "faults": [f"2 modules fill one slot: the stack, layer {layer}, attention_value" for layer in (0, 1)],
        "undecided": None,
    }


def test_what_could_not_be_checked_is_no_success(ual: Ual, monkeypatch: pytest.MonkeyPatch) -> None:
    report = BinderReport(architecture="own", checks=(outcome("function", "own, OwnModel", undecided="why"),))
    monkeypatch.setattr("ual_registry.cli.binder.check_binder", lambda path, base: report)
    result = ual("binder", "check", "own.json")
    assert (result.code, result.out.splitlines()[-1]) == (4, "binder own: 1 checks, 0 faults, 1 not checked")


GIVE = "give a binder document, a base model's folder, or its config.json"
BASE = "give the folder of a base model, in which its config.json is, or that file"
HUB = "a base model is given as a model folder, its config.json, or OWNER/NAME on the Hub"
OFFLINE = "offline mode is on (nor is there a file or folder org/model)"
UNSET = "unset HF_HUB_OFFLINE; what was pulled is in the registry"
WRITES = "`ual binder infer BASE -o FILE` writes a binder document"
NEITHER = "card.json: neither a binder document (no binder_version) nor a base model's config (no model_type)"
NO_CONFIG = "cannot read empty: no config.json in this folder"
PEFT = "cannot read peft: is a PEFT adapter"
BY_HAND = "write the binder by hand; see CONTRIBUTING.md, 'Add a binder'"
ROLE = (
    'typo.json.stacks[0].modules[0].roles[0]: "mlp_upp" is not one of "attention_query", "attention_key" or 31 other '
)
NOT_JSON = "broken.air: not JSON in UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
IS_CONFIG = "base/config.json: is a base model's config, expected a binder document"
ARCHITECTURES = ", ".join(binder.architecture for binder in load_binders())

MISTAKES: dict[str, tuple[int, str, str, str | None]] = {
    "show empty": (11, "storage", NO_CONFIG, BASE),
    "infer empty -o out.json": (11, "storage", NO_CONFIG, BASE),
    "check empty": (11, "storage", "cannot read empty: is a folder, expected a binder document", WRITES),
    "check own.json --base empty": (11, "storage", NO_CONFIG, BASE),
    "show peft": (11, "storage", PEFT, BASE),
    "infer peft -o out.json": (11, "storage", PEFT, BASE),
    "check own.json --base peft": (11, "storage", PEFT, BASE),
    "show broken.air": (4, "binder-data", NOT_JSON, GIVE),
    "infer broken.air -o out.json": (4, "binder-data", NOT_JSON, GIVE),
    "check broken.air": (4, "binder-data", NOT_JSON, GIVE),
    "show card.json": (4, "binder-data", NEITHER, GIVE),
    "infer card.json -o out.json": (4, "binder-data", NEITHER, GIVE),
    "check card.json": (4, "binder-data", NEITHER, GIVE),
    "show typo.json": (4, "binder-data", f"{ROLE}candidates", None),
    "check typo.json": (4, "binder-data", f"{ROLE}candidates", None),
    "show none.json": (11, "storage", "cannot read none.json: no such file or folder", HUB),
    "show org/model": (9, "hub-offline", f"cannot read hf:org/model: {OFFLINE}", UNSET),
    "infer none -o out.json": (11, "storage", "cannot read none: no such file or folder", HUB),
    "check none.json": (11, "storage", "cannot read none.json: no such file", WRITES),
    "check llama": (11, "storage", "cannot read llama: no such file", WRITES),
    "show Llama": (
        4,
        "unknown-architecture",
        f"no binder for architecture or model_type 'Llama' (architectures: {ARCHITECTURES})",
        "`ual binder list` shows the model types of each",
    ),
    "infer own.json -o out.json": (
        4,
        "binder-data",
        "own.json: is a binder document, expected a base model's config.json",
        "`ual binder show own.json` shows it, `ual binder check own.json` checks it",
    ),
    "check base/config.json": (
        4,
        "binder-data",
        IS_CONFIG,
        "`ual binder infer base/config.json -o FILE` writes the binder document of this model",
    ),
    "check own.json --base base": (
        4,
        "unknown-architecture",
        "binder 'own' is not for model_type 'llama' (known: own)",
        None,
    ),
    "check own.json": (
        4,
        "uninferable-architecture",
        "transformers 5.23.0 does not know model_type 'own'",
        "a newer version of transformers may know it",
    ),
    "infer base -o own.json": (
        11,
        "exists",
        "cannot write own.json: it exists already",
        "choose another name, or pass --force to replace it",
    ),
    "infer base -o none/out.json": (
        11,
        "storage",
        "cannot write none/out.json: there is no folder none",
        "make the folder first, or check the path",
    ),
    "infer remote.json -o out.json": (
        4,
        "uninferable-architecture",
        "model_type 'remote' brings its own code (auto_map), which is never run",
        BY_HAND,
    ),
    "infer image.json -o out.json": (
        4,
        "uninferable-architecture",
        "ViTForImageClassification reads 'pixel_values', which is neither text nor sound",
        BY_HAND,
    ),
}


@pytest.fixture
def silly(folder: Path) -> Path:
    """The working folder with documents that are no good."""
    own = own_document()
    (folder / "own.json").write_text(json.dumps(own))
    own["stacks"][0]["modules"][0]["roles"] = ["mlp_upp"]
    (folder / "typo.json").write_text(json.dumps(own))
    (folder / "card.json").write_text('{"hello": 1}')
    remote = {"model_type": "remote", "auto_map": {"AutoModel": "modeling_remote.Remote"}}
    (folder / "remote.json").write_text(json.dumps(remote))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32}
    vit = {"model_type": "vit", "architectures": ["ViTForImageClassification"], **sizes}
    (folder / "image.json").write_text(json.dumps(vit))
    return folder


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told_and_leaves_nothing(ual: Ual, silly: Path, command: str) -> None:
    code, kind, message, hint = MISTAKES[command]
    before = {path: path.stat().st_mtime_ns for path in silly.rglob("*") if path.is_file()}

    result = ual("binder", *command.split())

    told = f"error [{kind}]: {message}\n" + (f"hint: {hint}\n" if hint else "")
    assert (result.code, result.out, result.err) == (code, "", told)
    assert {path: path.stat().st_mtime_ns for path in silly.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["show", "infer", "check"])
def test_a_command_without_an_argument_says_what_is_missing(ual: Ual, name: str) -> None:
    result = ual("binder", name)
    argument = {"show": "ARCH", "infer": "BASE", "check": "FILE"}[name]
    assert (result.code, result.out, result.err.splitlines()[-1]) == (
        2,
        "",
        f"Error: Missing argument '{argument}'.",
    )


def test_two_documents_for_one_type_are_told(ual: Ual, silly: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = own_document(architecture="also_own")
    (silly / "also.json").write_text(json.dumps(document))
    monkeypatch.setenv(BINDERS_VARIABLE, os.pathsep.join(["own.json", "also.json"]))
    result = ual("binder", "list")
    assert (result.code, result.out, result.err.splitlines()) == (
        4,
        "",
        [
            "error [ambiguous-architecture]: model_type 'own' is held by two binders, own and also_own",
            (
                f"hint: remove one of them from {BINDERS_VARIABLE} or from the installed packages, "
                "or rename its model type"
            ),
        ],
    )


EXTRAS = {"torch": "torch", "transformers": "torch"}
PURPOSES = {"infer base": "inference", "check own.json": "the check"}


@pytest.mark.parametrize("package", EXTRAS)
@pytest.mark.parametrize("command", PURPOSES)
def test_a_missing_extra_is_told_with_how_to_install_it(
    ual: Ual, silly: Path, monkeypatch: pytest.MonkeyPatch, package: str, command: str
) -> None:
    find: Callable[[str], Any] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    result = ual("binder", *command.split())
    extra = EXTRAS[package]
    assert (result.code, result.out, result.err.splitlines()) == (
        10,
        "",
        [
            f"error [missing-extra]: {PURPOSES[command]} of a binder needs the extra '{extra}', which is not installed",
            f"hint: pip install 'ual-registry[{extra}]'",
        ],
    )
