"""Settings: what is legal, how they are written down, and what a wrong one is told."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ual_registry.errors import TrainingError
from ual_registry.training.config import TrainingConfig
from ual_registry.training.config_file import make_config, parse_layers, read_config

YAML = """
rank: 8
learning_rate: 2e-4
roles: [attention_query, attention_value]
layers: 0-2,5
rank_pattern: {mlp_up: 4}
"""
TOML = """
rank = 8
learning_rate = 2e-4
roles = "attention_query, attention_value"
layers = [0, 1, 2, 5]
[rank_pattern]
mlp_up = 4
"""
JSON = json.dumps(
    {
        "rank": 8,
        "learning_rate": 0.0002,
        "roles": ["attention_query", "attention_value"],
        "layers": "5, 0-2",
        "rank_pattern": {"mlp_up": 4},
    }
)


@pytest.mark.parametrize(("ending", "text"), [("yaml", YAML), ("yml", YAML), ("toml", TOML), ("json", JSON)])
def test_settings_are_read_from_a_file(ending: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"settings.{ending}"
    path.write_text(text)
    found = read_config(path, rank=32)
    assert found == TrainingConfig(
        rank=32, roles=("attention_query", "attention_value"), layers=(0, 1, 2, 5), rank_pattern={"mlp_up": 4}
    )


def test_defaults_follow_the_evidence() -> None:
    found = TrainingConfig()
    assert (found.rank, found.alpha, found.dropout, found.learning_rate) == (16, 32.0, 0.0, 2e-4)
    assert (found.schedule, found.effective_batch, found.scaling, found.roles) == ("cosine", 16, 2.0, None)
    assert (found.batching, found.loss_on, found.precision) == ("grouped", "completion", "auto")
    assert TrainingConfig(rslora=True).scaling == 8.0


def test_settings_are_written_as_they_are_read() -> None:
    own = TrainingConfig(layers=(0, 1), roles=("mlp_up",), alpha_pattern={"mlp_up": 3.0}, sinks=("tensorboard",))
    assert make_config(json.loads(json.dumps(own.document()))) == own
    assert [*own.document()] == [field.name for field in fields(TrainingConfig)]
    assert own.digest == make_config(own.document()).digest
    assert own.digest != TrainingConfig().digest


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"ranck": 1}, "ranck: there is no such setting", "did you mean rank?"),
        ({"rank": 0}, "rank: expected 1 or more, got 0", None),
        ({"rank": 1.5}, "rank: expected a whole number, got 1.5", None),
        ({"rank": True}, "rank: expected a whole number, got True", None),
        ({"rank": None}, "rank: expected a value, got none", None),
        ({"alpha": 0}, "alpha: expected above 0, got 0", None),
        ({"alpha": float("nan")}, "alpha: expected a number, got nan", None),
        ({"learning_rate": "fast"}, "learning_rate: expected a number, got 'fast'", None),
        ({"dropout": 1}, "dropout: expected 0 or more, below 1, got 1", None),
        ({"seed": -1}, "seed: expected 0 or more, got -1", None),
        ({"max_length": 1}, "max_length: expected 2 or more, got 1", None),
        ({"rslora": 1}, "rslora: expected true or false, got 1", None),
        ({"roles": 3}, "roles: expected a list, got 3", None),
        ({"roles": []}, "roles: expected one name at least, got none", None),
        ({"layers": []}, "layers: expected one layer at least, got none", None),
        ({"layers": "5-2"}, "layers: expected layers such as 0-11,14, got '5-2'", None),
        ({"layers": ["a"]}, "layers: expected a whole number, got 'a'", None),
        ({"exclude": [3]}, "exclude: expected a word, got 3", None),
        ({"rank_pattern": 3}, "rank_pattern: expected names with numbers, got 3", None),
        ({"rank_pattern": {"mlp_up": 0}}, "rank_pattern.mlp_up: expected 1 or more, got 0", None),
        ({"alpha_pattern": {"mlp_up": 0}}, "alpha_pattern.mlp_up: expected above 0, got 0", None),
        ({"head": "lm"}, "head: expected causal, masked, seq2seq, classification, got 'lm'", None),
        ({"sinks": ["wandb"]}, "sinks: expected names of tensorboard, mlflow, got 'wandb'", None),
        (
            {"roles": ["q_proj"]},
            "roles: expected roles such as attention_query and mlp_up, got 'q_proj'",
            "`ual train --explain` shows every module of the base model with its role",
        ),
        (
            {"roles": ["mlp_upp"]},
            "roles: expected roles such as attention_query and mlp_up, got 'mlp_upp'",
            "did you mean mlp_up? `ual train --explain` shows every module of the base model with its role",
        ),
        (
            {"patience": 2, "held_out_share": 0},
            "patience: nothing is held out, so that no look can get worse",
            "hold some out (held_out_share), or leave patience out",
        ),
        ({"warmup_ratio": 0.1}, "warmup_ratio: there is no such setting", "here it is warmup_share"),
        ({"lr": 0.1}, "lr: there is no such setting", "here it is learning_rate"),
        ({"bf16": True}, "bf16: there is no such setting", "here it is precision: bfloat16"),
        (
            {"target_modules": "all"},
            "target_modules: there is no such setting",
            "here it is roles, such as attention_query and mlp_up",
        ),
        (
            {"batching": "packed", "head": "seq2seq"},
            "batching: expected grouped or shuffled with head seq2seq, got packed",
            None,
        ),
        ({"head": "masked", "mask_share": 0.0}, "mask_share: expected above 0 with head masked, got 0", None),
        (
            {"schedule": "warmup-stable-decay", "warmup_share": 0.6, "decay_share": 0.6},
            "decay_share: warm-up and decay are longer than the run",
            None,
        ),
    ],
)
def test_a_wrong_setting_is_told_by_name(changes: dict[str, Any], message: str, hint: str | None) -> None:
    with pytest.raises(TrainingError) as caught:
        make_config(changes)
    assert str(caught.value) == f"setting {message}"
    assert (caught.value.problem_code, caught.value.hint) == ("setting", hint)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ini", "", "expected a name that ends in .yaml, .yml, .toml, .json"),
        ("a.yaml", "rank: [", "is no YAML: "),
        ("a.toml", "rank = ", "is no TOML: "),
        ("a.json", "{", "is no JSON: "),
        ("a.json", '{"rank": 1, "rank": 2}', "is no JSON: "),
        ("a.yaml", "- rank", "expected names with values, got a list"),
        ("a.yaml", "!!python/object/apply:os.system [ls]", "is no YAML: "),
    ],
)
def test_a_file_of_something_else_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TrainingError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert caught.value.problem_code == "config-file"


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_config(tmp_path / "a.yaml") == TrainingConfig()


def test_layers_are_read_as_people_write_them() -> None:
    assert parse_layers(" 3, 0-1,1 ") == (0, 1, 3)
    assert make_config({"layers": 4}).layers == (4,)
