"""Every command: its text and its document, whole."""

from __future__ import annotations

import datetime
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.handmade import small_adapter
from tests.reference import projection as reference
from tests.reference.lora import entry_delta
from tests.unit.cli.conftest import Result, Ual
from ual_registry.air.codec import encode
from ual_registry.air.model import Lineage, Parent
from ual_registry.air.read import read
from ual_registry.air.write import write
from ual_registry.digest import Digest
from ual_registry.registry.fields import FIELDS
from ual_registry.registry.registry import Registry
from ual_registry.registry.schema import SCHEMA_REVISION

ROTARY = "rotary position embedding differs between the bases"
EXTRA = "a tensor without a role cannot be projected"
CONFIG = str(Digest.of_bytes(b"config"))


def digest_of(name: str) -> str:
    return str(Digest.of_file(Path(name)))


def tensor_digest_of(name: str) -> str:
    with read(name) as adapter:
        return adapter.manifest.tensor_digest


def size_of(name: str) -> int:
    return Path(name).stat().st_size


def without_time(document: Any) -> Any:
    """Replace times, once their form is checked."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "created_at":
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value)
                age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(value)
                assert age < datetime.timedelta(minutes=5)
        return {key: "now" if key == "created_at" else without_time(value) for key, value in document.items()}
    return [without_time(item) for item in document] if isinstance(document, list) else document


def test_validate_tells_of_a_legal_file(ual: Ual) -> None:
    assert ual("validate", "small.air") == Result(
        0,
        f"small.air: ok (AIR 1.0 adapter for gpt_neox, 3 entries, 6 tensors, {size_of('small.air') / 1e3:.3g} kB)\n",
        "",
    )
    result = ual("validate", "small.air", "--json")
    assert (result.code, result.err) == (0, "")
    assert result.document == {
        "ok": True,
        "files": [
            {
                "path": "small.air",
                "ok": True,
                "problems": [],
                "facts": {
                    "air_version": "1.0",
                    "kind": "adapter",
                    "architecture": "gpt_neox",
                    "entries": 3,
                    "tensors": 6,
                    "size_bytes": size_of("small.air"),
                    "tensor_digest": tensor_digest_of("small.air"),
                },
            }
        ],
    }


def test_validate_tells_of_every_file_and_its_code_is_that_of_the_worst(ual: Ual) -> None:
    result = ual("validate", "small.air", "empty", "peft", "none.air")
    assert result == Result(
        11,
        f"small.air: ok (AIR 1.0 adapter for gpt_neox, 3 entries, 6 tensors, {size_of('small.air') / 1e3:.3g} kB)\n"
        "empty: 1 error\n"
        "  error [folder] empty: holds no *.air file, at any depth\n"
        "      hint: check the path\n"
        "peft: 1 error\n"
        "  error [folder] peft: holds no *.air file, at any depth\n"
        "      hint: this is a PEFT folder: 'ual convert peft FILE.air --base BASE' first\n"
        "none.air: 1 error\n"
        "  error [storage] cannot read none.air: No such file or directory\n"
        "      hint: check the path\n",
        "",
    )
    assert ual("validate", "small.air", "empty").code == 3
    assert ual("validate", "none.air", "--json").document == {
        "ok": False,
        "files": [
            {
                "path": "none.air",
                "ok": False,
                "problems": [
                    {
                        "code": "storage",
                        "severity": "error",
                        "place": "",
                        "message": "cannot read none.air: No such file or directory",
                        "hint": "check the path",
                    }
                ],
                "facts": {},
            }
        ],
    }


def unpinned(name: str) -> None:
    """Write a file that earns a warning."""
    from tests.handmade import base_model

    write(small_adapter(base_model=base_model(revision=None)), Path(name))


WARNING = (
    "  warning [unpinned-base] manifest.base_model.revision: the base model is not pinned to a commit\n"
    "      hint: convert again with --base-revision COMMIT\n"
)


def test_warnings_are_shown_unless_quiet_and_are_errors_where_strict(ual: Ual, folder: Path) -> None:
    unpinned("loose.air")
    ok = f"loose.air: ok (AIR 1.0 adapter for gpt_neox, 3 entries, 6 tensors, {size_of('loose.air') / 1e3:.3g} kB)\n"
    assert ual("validate", "loose.air") == Result(0, ok + WARNING, "")
    assert ual("validate", "loose.air", "-q") == Result(0, ok, "")
    assert ual("validate", "loose.air", "--strict") == Result(3, "loose.air: 1 warning\n" + WARNING, "")
    assert ual("validate", "loose.air", "--strict", "-q") == Result(3, "loose.air: 1 warning\n" + WARNING, "")
    document = ual("validate", "loose.air", "--strict", "--json").document
    assert (document["ok"], document["files"][0]["ok"]) == (False, False)
    assert ual("validate", "loose.air", "small.air", "--json").document["ok"] is True


def test_validate_reads_tensors_unless_told_not_to(ual: Ual) -> None:
    data = bytearray(Path("small.air").read_bytes())
    data[-1] ^= 1
    Path("bent.air").write_bytes(data)
    result = ual("validate", "bent.air")
    assert result.code == 3
    assert result.out.startswith("bent.air: 1 error\n  error [tensor-digest] manifest.tensor_digest: stored sha256:")
    assert ual("validate", "bent.air", "--headers-only").code == 0


@pytest.mark.parametrize(
    "words", [("transfer", "--to", "wide", "-o", "out"), ("convert", "out", "--to", "peft"), ("add", "--name", "x")]
)
def test_changed_tensors_are_not_used(ual: Ual, words: tuple[str, ...]) -> None:
    data = bytearray(Path("small.air").read_bytes())
    data[-1] ^= 1
    Path("bent.air").write_bytes(data)
    result = ual(words[0], "bent.air", *words[1:])
    assert (result.code, result.out) == (3, "")
    where = "bent.air: " if words[0] == "add" else ""
    assert result.err.startswith(f"error [tensor-digest]: {where}manifest.tensor_digest: stored sha256:")
    assert result.err.endswith("hint: the tensors were changed after they were written: fetch or copy the file again\n")
    assert not Path("out").exists()


def test_several_faults_are_counted(ual: Ual) -> None:
    from tests.handmade import container, split_container

    header, data = split_container(Path("small.air").read_bytes())
    manifest = json.loads(header["__metadata__"]["air"])
    del manifest["kind"], manifest["entries"]
    header["__metadata__"]["air"] = json.dumps(manifest, separators=(",", ":"), sort_keys=True)
    Path("two.air").write_bytes(container(header, data))
    result = ual("validate", "two.air", "--json")
    count = len(result.document["files"][0]["problems"])
    assert (result.code, count > 1) == (3, True)
    assert ual("validate", "two.air").out.splitlines()[0] == f"two.air: {count} errors"


SHOWN = """\
small.air  AIR 1.0 adapter, {size:.3g} kB
digest     {digest}
name       label
domain     medical
license    MIT
base       tiny (gpt_neox, 2 layers of 4), at 0000000000000000000000000000000000000000
method     LoRA rank 2, alpha 4, scaling alpha/rank, CAUSAL_LM
parameters 44 in 3 entries
features   extra-tensors

role             layers    rank    scaling    out x in  by layer
attention_query  0         2       2          4 x 4     #.
attention_key    0         2       2          4 x 4     #.
mlp_up           0         2       2          6 x 4     #.

tensors without a role
  base_model.model.score.weight
"""


def test_show_describes_a_file(ual: Ual) -> None:
    digest, size = digest_of("small.air"), size_of("small.air")
    assert ual("show", "small.air") == Result(0, SHOWN.format(size=size / 1e3, digest=digest), "")
    result = ual("show", "./small.air", "--json")
    shape = {"stack": None, "layers": [0], "experts": [], "ranks": [2], "scalings": [2.0]}
    with read("small.air") as adapter:
        assert (result.code, result.document) == (
            0,
            {
                "path": "small.air",
                "digest": digest,
                "size_bytes": size,
                "parameter_count": 44,
                "roles": [
                    {"role": "attention_query", "shapes": [[4, 4]], **shape},
                    {"role": "attention_key", "shapes": [[4, 4]], **shape},
                    {"role": "mlp_up", "shapes": [[6, 4]], **shape},
                ],
                "manifest": json.loads(json.dumps(encode(adapter.manifest), default=dict)),
            },
        )


def test_show_describes_what_a_transfer_made(ual: Ual) -> None:
    assert ual("transfer", "small.air", "--to", "wide", "-o", "out.air", "--method", "truncate").code == 0
    from ual_registry.binders.base import load_base

    assert ual("show", "out.air").out == (
        f"out.air  AIR 1.0 adapter, {size_of('out.air') / 1e3:.3g} kB\n"
        f"digest     {digest_of('out.air')}\n"
        "name       label\n"
        "domain     medical\n"
        "license    MIT\n"
        "base       wide (llama, 2 layers of 4), unpinned\n"
        "method     LoRA rank 2, alpha 2, scaling alpha/rank, CAUSAL_LM\n"
        "parameters 24 in 1 entries\n"
        "\n"
        "role    layers    rank    scaling    out x in  by layer\n"
        "mlp_up  0         2       1          8 x 4     #.\n"
        "\n"
        "made from\n"
        f"  projected_from {digest_of('small.air')}\n"
        "\n"
        "projection by ual-registry 0.1.0: layer_map proportional, method truncate, rotary drop\n"
        f"  from source adapter {digest_of('small.air')}\n"
        f"  from source base config {CONFIG}\n"
        f"  from target base config {load_base(Path('wide')).digest}\n"
        "  dropped 3\n"
        "  energy_share 0.908759\n"
        "  kept 0\n"
        "  projected 1\n"
        "  label control-grade\n"
    )


@pytest.mark.filterwarnings("ignore")
def test_show_tells_stacks_apart_and_names_dora(ual: Ual, peft_folders: Any) -> None:
    for architecture, option in (("t5", "plain"), ("llama", "dora")):
        made = peft_folders.get(architecture, option)
        assert ual("convert", made.path, f"{architecture}.air", "--base", made.base, "-q").code == 0
    lines = ual("show", "t5.air").out.splitlines()
    assert lines[2:5] == [
        "base       base (t5, encoder 2 layers of 16, decoder 3 layers of 16), unpinned",
        "method     LoRA rank 4, alpha 6, scaling alpha/rank, SEQ_2_SEQ_LM",
        f"parameters {parameters('t5.air'):,} in 42 entries",
    ]
    assert lines[5:10] == [
        "origin     peft, with its configuration",
        "",
        "stack    role                    layers    rank    scaling    out x in  by layer",
        "encoder  attention_query         0-1       4       1.5        32 x 16   ##",
        "encoder  attention_key           0-1       4       1.5        32 x 16   ##",
    ]
    assert "method     DoRA rank 4, alpha 6, scaling alpha/rank, CAUSAL_LM" in ual("show", "llama.air").out


def deep(name: str, depth: int, layers: Any) -> None:
    """Write an adapter of two roles in some layers of a deep model."""
    from dataclasses import replace

    from tests.handmade import base_model, entry, floats
    from ual_registry.air.adapter import Adapter

    (stack,) = base_model().stacks
    entries, tensors = [], {}
    for layer in layers:
        for role, rows in (("attention_output", 4), ("mlp_up", 6)):
            names = {factor: f"layers.{layer}.{role}.{factor}" for factor in ("lora_A", "lora_B")}
            entries.append(entry(role, 4, rows, layer=layer, **names))
            tensors |= {names["lora_A"]: floats(2, 4), names["lora_B"]: floats(rows, 2)}
    base = base_model(stacks=(replace(stack, num_layers=depth),))
    ordered = tuple(sorted(entries, key=lambda item: item.key))
    made = small_adapter(
        base_model=base,
        entries=ordered,
        extra=(),
        features=(),
        tags=("a", "b"),
        languages=("en",),
        created_at="2026-01-02T03:04:05Z",
        annotations={"org.b": 1, "org.a": 2},
    )
    write(Adapter(made.manifest, tensors), Path(name))


def test_show_draws_the_layers_of_a_deep_model_within_a_page(ual: Ual) -> None:
    deep("deep.air", 32, [*range(16), 20, 22, 24, 31])
    lines = ual("show", "deep.air").out.splitlines()
    assert lines[2:] == [
        "languages  en",
        "tags       a, b",
        "created_at 2026-01-02T03:04:05Z",
        "base       tiny (gpt_neox, 32 layers of 4), at 0000000000000000000000000000000000000000",
        "method     LoRA rank 2, alpha 4, scaling alpha/rank, CAUSAL_LM",
        "parameters 720 in 40 entries",
        "annotated  org.a, org.b",
        "",
        "role              layers    rank    scaling    out x in  by layer",
        "attention_output  20 of 32  2       2          4 x 4     ################....#.#.#......#",
        "mlp_up            20 of 32  2       2          6 x 4     ################....#.#.#......#",
    ]


def test_a_role_outside_the_blocks_has_no_layers_to_draw(ual: Ual) -> None:
    from tests.handmade import entry, floats
    from ual_registry.air.adapter import Adapter

    names = {factor: f"token_embedding.{factor}" for factor in ("lora_A", "lora_B")}
    made = small_adapter(entries=(entry("token_embedding", 5, 4, layer=None, **names),), extra=(), features=())
    write(Adapter(made.manifest, {names["lora_A"]: floats(2, 5), names["lora_B"]: floats(4, 2)}), Path("out.air"))
    assert ual("show", "out.air").out.splitlines()[-2:] == [
        "role             layers    rank    scaling    out x in  by layer",
        "token_embedding  -         2       2          4 x 5",
    ]


def test_a_character_stands_for_a_few_layers_where_the_model_is_too_deep(ual: Ual) -> None:
    deep("deeper.air", 126, [*range(40), 50, 125])
    lines = ual("show", "deeper.air").out.splitlines()[-3:]
    assert lines == [
        "role              layers         rank    scaling    out x in  by 4 layers",
        "attention_output  0-39, 50, 125  2       2          4 x 4     ##########..+..................+",
        "mlp_up            0-39, 50, 125  2       2          6 x 4     ##########..+..................+",
    ]
    assert max(len(line) for line in lines) <= 100


def parameters(name: str) -> int:
    with read(name) as adapter:
        return adapter.parameter_count


def test_a_registered_name_is_found_whatever_stands_in_the_working_folder(ual: Ual) -> None:
    for name in ("peft", "broken.AIR"):
        assert ual("add", "small.air", "--name", name).code == 0
    Path("broken.AIR").write_text("no AIR")
    assert ual("show", "peft", "--json").document["digest"] == digest_of("small.air")
    assert ual("show", "broken.AIR", "--json").document["digest"] == digest_of("small.air")


def test_convert_goes_to_air_and_back(ual: Ual) -> None:
    result = ual("convert", "peft", "out.air", "--base", "base")
    assert result == Result(
        0,
        f"wrote out.air (1 entries, {size_of('out.air') / 1e3:.3g} kB)\ntensors {tensor_digest_of('out.air')}\n",
        "left behind, no part of the adapter: README.md\n",
    )
    assert ual("validate", "out.air").code == 0
    back = ual("convert", "out.air", "back", "--json")
    assert (back.code, back.err) == (0, "")
    assert back.document == {
        "path": "back",
        "tensor_digest": tensor_digest_of("out.air"),
        "entry_count": 1,
        "extra_count": 0,
        "size_bytes": size_of("back/adapter_model.safetensors"),
        "left_behind": [],
        "losses": [],
    }
    assert sorted(path.name for path in Path("back").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads(Path("back/adapter_config.json").read_text()) == json.loads(
        Path("peft/adapter_config.json").read_text()
    )


def test_convert_replaces_what_it_may(ual: Ual) -> None:
    Path("out.air").write_text("what stood here")
    Path("back").mkdir()
    (Path("back") / "old").touch()
    assert ual("convert", "peft", "out.air", "--base", "base", "--force", "-q").code == 0
    assert ual("validate", "out.air").code == 0
    assert ual("convert", "out.air", "back").code == 11
    assert ual("convert", "out.air", "back", "--force").code == 11  # whose folder is that?
    (Path("back") / "adapter_config.json").touch()
    assert ual("convert", "out.air", "back", "--force").code == 0
    assert sorted(path.name for path in Path("back").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_convert_writes_labels(ual: Ual) -> None:
    labels = {
        "--name": "n",
        "--description": "d",
        "--domain": "law",
        "--license": "MIT",
        "--base-id": "org/x",
        "--base-revision": "c0ffee",
    }
    words = [word for pair in labels.items() for word in pair]
    result = ual("convert", "peft", "out", "--to", "air", "--base", "base/config.json", *words, "-q", "--json")
    assert (result.code, result.err) == (0, "")
    assert result.document["left_behind"] == ["README.md"]
    with read("out") as adapter:
        manifest = adapter.manifest
    assert (manifest.name, manifest.description, manifest.domain, manifest.license) == ("n", "d", "law", "MIT")
    assert (manifest.base_model.id, manifest.base_model.revision) == ("org/x", "c0ffee")


def test_convert_counts_tensors_without_a_role(ual: Ual, peft_folders: Any) -> None:
    made = peft_folders.get("llama", "modules_to_save")
    result = ual("convert", made.path, "out.air", "--base", made.base)
    assert result.out.startswith("wrote out.air (4 entries, 1 tensors without a role, ")


def test_convert_takes_a_registered_adapter(ual: Ual) -> None:
    ual("convert", "peft", "out.air", "--base", "base")
    ual("add", "out.air", "--name", "kept")
    result = ual("convert", "kept@1", "again", "--json")
    assert (result.code, result.document["tensor_digest"]) == (0, tensor_digest_of("out.air"))


@pytest.mark.parametrize(
    "flag", ["--base", "--base-id", "--base-revision", "--name", "--description", "--domain", "--license"]
)
def test_labels_do_not_go_into_a_peft_folder(ual: Ual, flag: str) -> None:
    result = ual("convert", "small.air", "back", flag, "x")
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith(f"\nError: {flag} belongs to converting a PEFT folder to AIR\n")


def test_get_writes_the_exact_bytes(ual: Ual) -> None:
    ual("add", "small.air", "--name", "med")
    digest = digest_of("small.air")
    assert ual("get", "med", "-o", "out.air") == Result(0, f"wrote out.air\n{digest}\n", "")
    assert Path("out.air").read_bytes() == Path("small.air").read_bytes()
    assert ual("get", digest, "--output", "out.air", "--force", "--json").document == {
        "path": "out.air",
        "digest": digest,
    }


RECORD = {
    "name": "med",
    "number": 1,
    "created_at": "now",
    "owner": None,
    "aliases": ["a", "b"],
    "tags": {},
    "kind": "adapter",
    "title": "label",
    "base": "tiny",
    "architecture": "gpt_neox",
    "method": "lora",
    "domain": "medical",
    "license": "MIT",
    "ranks": [2],
    "roles": ["attention_key", "attention_query", "mlp_up"],
    "targets": [
        {"stack": None, "role": role, "rank": 2, "entry_count": 1, "first_layer": 0, "last_layer": 0}
        for role in ("attention_key", "attention_query", "mlp_up")
    ],
    "parameter_count": 44,
    "recovered_gain": None,
    "evaluations": [],
    "yank_reason": None,
}


def test_list_and_search_print_a_table_and_a_document(ual: Ual) -> None:
    ual("add", "small.air", "--name", "med", "--alias", "b", "--alias", "a")
    digest, size = digest_of("small.air"), size_of("small.air")
    table = (
        "adapter    aliases    base             method    rank    roles    domain    size     digest\n"
        "med@1      a, b       tiny (gpt_neox)  lora      2       3        medical   "
        f"{size / 1e3:.3g} kB  {digest[:19]}\n"
    )
    record = {**RECORD, "digest": digest, "size_bytes": size}
    assert ual("list") == Result(0, table, "")
    assert without_time(ual("list", "--json").document) == {
        "adapters": [{"name": "med", "revision_count": 1, "newest": record}],
        "next": None,
    }
    assert ual("search", "domain:medical", "rank:2") == Result(0, table, "")
    assert ual("search", "domain:medical rank:2", "--limit", "1") == Result(0, table, "")
    assert without_time(ual("search", "--json").document) == {"hits": [record], "next": None}


def test_an_empty_registry_says_how_to_begin(ual: Ual) -> None:
    header = "adapter    aliases    base    method    rank    roles    domain    size    digest\n"
    assert ual("list") == Result(0, header, "nothing to list; 'ual add FILE.air --name NAME' adds to it\n")
    assert ual("list", "-q") == Result(0, header, "")
    assert ual("list", "--json").document == {"adapters": [], "next": None}
    assert ual("search", "") == Result(0, header, "nothing found\n")
    assert ual("search", "rank>1", "-q", "--json").document == {"hits": [], "next": None}


def test_search_says_when_there_is_more(ual: Ual) -> None:
    for name in ("a", "b", "c"):
        ual("add", "small.air", "--name", name)
    result = ual("search", "rank:2", "--limit", "2")
    assert [line.split()[0] for line in result.out.splitlines()] == ["adapter", "a@1", "b@1"]
    cursor = result.err.split()[-1]
    assert result.err == f"there are more than 2; the next page: --after {cursor}\n"
    rest = ual("search", "rank:2", "--after", cursor)
    assert [line.split()[0] for line in rest.out.splitlines()] == ["adapter", "c@1"]
    assert ual("search", "rank:2", "--limit", "2", "--json").document["next"] == cursor
    assert ual("list", "--order", "-name", "--limit", "1").out.splitlines()[1].startswith("c@1")
    assert ual("search", "rank:2", "--limit", "3").err == ""
    assert [hit["name"] for hit in ual("search", "--limit", "1", "--json").document["hits"]] == ["a"]


def test_a_mistake_in_a_query_is_pointed_at(ual: Ual) -> None:
    assert ual("search", "rank>=x", "domain:a") == Result(
        8,
        "",
        "error [query]: query, column 7: expected a whole number, got 'x'\n"
        "  rank>=x domain:a\n"
        "        ^\n"
        f"hint: fields: {', '.join(FIELDS)}\n",
    )


def chain(ual: Ual) -> dict[str, str]:
    """Register a small family: one -> two -> three, other from one, three also from other and from an unknown."""
    digests: dict[str, str] = {"unknown": "sha256:" + "ab" * 32}
    for name, parents in {
        "one": [],
        "two": ["one"],
        "other": ["one"],
        "three": ["two", "other", "unknown"],
    }.items():
        lineage = Lineage(parents=tuple(Parent(digest=digests[p], relation="projected_from") for p in parents))
        write(small_adapter(description=name, **({"lineage": lineage} if parents else {})), Path(f"{name}.air"))
        assert ual("add", f"{name}.air", "--name", name).code == 0
        digests[name] = digest_of(f"{name}.air")
    return digests


def test_lineage_draws_ancestors_and_descendants(ual: Ual) -> None:
    digests = chain(ual)

    def node(name: str) -> str:
        return f"{name}@1  tiny  {digests[name][:19]}"

    first, second = sorted(("two", "other"), key=lambda name: digests[name])
    below = [(digests["two"], "two"), (digests["other"], "other"), (digests["unknown"], "unknown")]
    lines = [node("three")]
    is_drawn = False
    for index, (digest, name) in enumerate(sorted(below)):
        branch, indent = ("└─", "   ") if index == 2 else ("├─", "│  ")
        text = f"{digest} (not in this registry)" if name == "unknown" else node(name)
        lines.append(f"{branch} projected_from {text}")
        if name != "unknown":
            lines.append(f"{indent}└─ projected_from {node('one')}")
            is_drawn = True
    assert is_drawn
    assert ual("lineage", "three") == Result(0, "\n".join(lines) + "\n", "")
    assert ual("lineage", "three", "--up").out == "\n".join(lines) + "\n"
    assert ual("lineage", "three", "--down").out == node("three") + "\n"

    assert ual("lineage", "one").out == (
        f"{node('one')}\n\nmade from it:\n"
        f"├─ projected_from {node(first)}\n│  └─ projected_from {node('three')}\n"
        f"└─ projected_from {node(second)}\n   └─ projected_from {node('three')}\n"
    )
    assert ual("lineage", "one", "--up", "--down").out == ual("lineage", "one").out


def test_a_lineage_that_goes_round_is_drawn_once(ual: Ual) -> None:
    from ual_registry.registry.tables import LineageRow

    digests = chain(ual)
    with Registry.open().database.session(writes=True) as session:
        session.add(LineageRow(child_digest=digests["one"], parent_digest=digests["two"], relation="merged_from"))
    assert ual("lineage", "one", "--up").out == (
        f"one@1  tiny  {digests['one'][:19]}\n"
        f"└─ merged_from two@1  tiny  {digests['two'][:19]}\n"
        f"   └─ projected_from one@1  tiny  {digests['one'][:19]} (see above)\n"
        "\nmade from it:\n"
        f"└─ projected_from two@1  tiny  {digests['two'][:19]}\n"
        f"   └─ merged_from one@1  tiny  {digests['one'][:19]} (see above)\n"
    )


def test_lineage_is_a_document(ual: Ual) -> None:
    digests = chain(ual)
    nodes = [
        {"digest": digests["one"], "names": ["one@1"], "base": "tiny", "state": "present"},
        {"digest": digests["two"], "names": ["two@1"], "base": "tiny", "state": "present"},
    ]
    assert ual("lineage", "two@1", "--up", "--json").document == {
        "root": digests["two"],
        "nodes": sorted(nodes, key=lambda node: node["digest"]),
        "edges": [{"child": digests["two"], "parent": digests["one"], "relation": "projected_from"}],
        "is_complete": True,
    }


def test_a_lineage_that_is_cut_short_says_so(ual: Ual) -> None:
    digests = chain(ual)
    edge = {"child": digests["two"], "parent": digests["one"], "relation": "projected_from"}
    found = ual("lineage", "one", "--limit", "1", "--json")
    assert (found.document["edges"], found.document["is_complete"]) == ([edge], False)
    assert found.err == "there is more than 1 edges one way; --all follows every one\n"
    whole = ual("lineage", "one", "--limit", "1", "--all", "--json")
    assert whole == ual("lineage", "one", "--json")
    assert (whole.document["is_complete"], whole.err) == (True, "")


def test_lineage_has_four_forms_and_two_bounds(ual: Ual) -> None:
    chain(ual)
    document = ual("lineage", "three", "--json").document
    assert ual("lineage", "three", "--format", "json").document == document
    assert ual("lineage", "three", "--format", "dot").out.startswith("digraph lineage {\n")
    assert ual("lineage", "three", "--format", "mermaid").out.startswith("flowchart LR\n")
    assert ual("lineage", "three", "--depth", "0").out == "".join(ual("lineage", "three").out.splitlines(True)[:1])
    assert ual("lineage", "three", "--relation", "merged_from", "--json").document["edges"] == []


def test_db_says_where_it_stands(ual: Ual, folder: Path) -> None:
    url = f"sqlite:///{folder.parent}/home/registry.db"
    none = f"{url}: migration none (expected {SCHEMA_REVISION}: run 'ual db upgrade')\n"
    current = f"{url}: migration {SCHEMA_REVISION} (current)\n"
    assert ual("db", "current") == Result(0, none, "")
    assert ual("db", "check") == Result(8, none, "")
    assert not (folder.parent / "home").exists()
    assert ual("db", "upgrade") == Result(0, current, "")
    assert ual("db", "check") == Result(0, current, "")
    state = {"url": url, "current": SCHEMA_REVISION, "expected": SCHEMA_REVISION, "differences": None}
    assert ual("db", "current", "--json").document == state
    assert ual("db", "upgrade", "--json").document == state
    assert ual("db", "check", "--json").document == state | {"differences": []}


def test_db_check_names_every_difference(ual: Ual, folder: Path) -> None:
    ual("db", "upgrade")
    file = folder.parent / "home" / "registry.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
        connection.execute("DROP INDEX ix_tags_key_value")
    connection.close()
    lines = ["index ix_tags_key_value of table tags is missing", "table photos is not of this program"]
    assert ual("db", "check") == Result(
        8,
        f"sqlite:///{file}: migration {SCHEMA_REVISION} (current, but its tables differ)\n  {lines[0]}\n  {lines[1]}\n",
        "",
    )
    shown = ual("db", "check", "--json")
    assert (shown.code, shown.document["differences"]) == (8, lines)


def test_db_says_of_a_newer_database_what_to_do(ual: Ual, folder: Path) -> None:
    ual("db", "upgrade")
    file = folder.parent / "home" / "registry.db"
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    said = f"sqlite:///{file}: migration 9999 (expected {SCHEMA_REVISION}: upgrade ual-registry)\n"
    assert ual("db", "current") == Result(0, said, "")
    assert ual("db", "check") == Result(8, said, "")
    refused = (
        f"error [unavailable]: registry sqlite:///{file}: schema is at migration 9999, expected {SCHEMA_REVISION}\n"
        "hint: upgrade ual-registry\n"
    )
    assert ual("db", "upgrade") == Result(8, "", refused)
    assert ual("list") == Result(8, "", refused)


LACKING = "no weights of the source base tiny at hand: give --source-base"

NEEDY = ("distill", "copy", "predictions", "residual", "activations", "vocab")
FALLBACK = "two configs are enough for it; carries nothing between unrelated bases"


def choice_text(last: str) -> str:
    """Return the table of the rule where only the last method has what it needs."""
    width = max(len(last), len("lacking"))
    rows = [("method", "", "why"), *((name, "lacking", LACKING) for name in NEEDY), ("svd", last, FALLBACK)]
    return "".join(f"{method:<11}  {standing:<{width}}  {reason}\n" for method, standing, reason in rows)


PLAN = f"""\
tiny (gpt_neox) -> base (llama) by svd

         role                           entries    source layers    target layers    why
kept     mlp_up                         1          0                0                same shape
dropped  attention_key                  1          0                -                {ROTARY}
dropped  attention_query                1          0                -                {ROTARY}
dropped  base_model.model.score.weight  1          -                -                {EXTRA}

1 kept, 0 projected, 3 dropped

{choice_text("possible")}"""

VERBOSE = """\
tiny (gpt_neox) -> org/x (llama) by truncate

         source                         target           why
kept     layers.0.mlp_up                layers.0.mlp_up  same shape
dropped  layers.0.attention_key                          rotary position embedding differs between the bases
dropped  layers.0.attention_query                        rotary position embedding differs between the bases
dropped  base_model.model.score.weight                   a tensor without a role cannot be projected

1 kept, 0 projected, 3 dropped
"""


HOW = ("--method", "truncate")


def test_a_plan_is_shown_by_role_or_by_entry(ual: Ual) -> None:
    assert ual("transfer", "small.air", "--to", "base", "--plan") == Result(0, PLAN, "")
    assert ual("transfer", "small.air", "--to", "base/config.json", "--to-id", "org/x", "--plan", "-v", *HOW) == Result(
        0, VERBOSE, ""
    )
    choice = [{"method": name, "standing": "lacking", "reason": LACKING} for name in NEEDY]
    assert ual("transfer", "small.air", "--to", "base", "--plan", "--json").document == {
        "source": "tiny",
        "target": "base",
        "method": "svd",
        "choice": [*choice, {"method": "svd", "standing": "possible", "reason": FALLBACK}],
        "layers": {"single": [0, 1]},
        "counts": {"kept": 1, "projected": 0, "dropped": 3},
        "moves": [
            {"source": "layers.0.mlp_up", "target": "layers.0.mlp_up", "action": "kept", "reason": "same shape"},
            {"source": "layers.0.attention_key", "target": None, "action": "dropped", "reason": ROTARY},
            {"source": "layers.0.attention_query", "target": None, "action": "dropped", "reason": ROTARY},
            {"source": "base_model.model.score.weight", "target": None, "action": "dropped", "reason": EXTRA},
        ],
    }
    assert sorted(path.name for path in Path().iterdir()) == [
        "base",
        "broken.air",
        "empty",
        "peft",
        "small.air",
        "wide",
    ]


def test_a_plan_of_two_stacks_names_them(ual: Ual, peft_folders: Any) -> None:
    made = peft_folders.get("t5")
    ual("convert", made.path, "t5.air", "--base", made.base)
    rows = [line.split() for line in ual("transfer", "t5.air", "--to", made.base, "--plan").out.splitlines()[3:5]]
    assert rows == [
        ["kept", "encoder.attention_query", "2", "0-1", "0-1", "same", "shape"],
        ["kept", "encoder.attention_key", "2", "0-1", "0-1", "same", "shape"],
    ]


def test_a_transfer_writes_a_file_and_says_what_became_of_the_adapter(ual: Ual) -> None:
    result = ual("transfer", "small.air", "--to", "wide", "-o", "out.air")
    assert result == Result(
        0,
        "tiny (gpt_neox) -> wide (llama) by svd\n"
        "\n"
        "role    entries    energy kept    norm ratio    effective rank\n"
        "mlp_up  1          1.000          0.931         1.001\n"
        "\n"
        "0 kept, 1 projected, 3 dropped\n"
        f"  dropped 2: {ROTARY}\n"
        f"  dropped 1: {EXTRA}\n"
        "energy share 0.909 reached the target's shapes; this says nothing about quality\n"
        "\n"
        f"{choice_text('taken')}"
        "\n"
        "label: control-grade (between unrelated base models this carries nothing; measure it with 'ual evaluate')\n"
        f"wrote out.air ({size_of('out.air') / 1e3:.3g} kB)\n"
        f"{digest_of('out.air')}\n",
        "",
    )
    assert ual("validate", "out.air", "-q").code == 0


def test_a_transfer_is_a_document(ual: Ual) -> None:
    """Kept entries are read from the source's file, which is closed before the result is written."""
    ual("add", "small.air", "--name", "med")
    result = ual(
        "transfer", "med@1", "--to", "base", "-o", "out.air", "--method", "truncate", "--rotary", "project", "--json"
    )
    assert (result.code, result.err) == (0, "")
    document = result.document
    ranks = [entry.pop("effective_rank") for entry in document["entries"]]
    roles = ("attention_query", "attention_key", "mlp_up")
    with read("small.air") as adapter:
        entries = {entry.role: entry for entry in adapter.entries}
        deltas = [entry_delta(adapter, entries[role]) for role in roles]
    values = [np.linalg.svd(delta, compute_uv=False)[:2] for delta in deltas]
    # Float64 on both sides; the small singular values lose most of the digits.
    assert ranks == pytest.approx([reference.effective_rank(own) for own in values], rel=1e-9)
    assert document == {
        "path": "out.air",
        "digest": digest_of("out.air"),
        "method": "truncate",
        "label": "control-grade",
        "choice": None,
        "results": None,
        "over_budget": None,
        "warnings": [],
        "counts": {"kept": 3, "projected": 0, "dropped": 1},
        "dropped_because": {EXTRA: 1},
        "energy_share": 1.0,
        "entries": [
            {
                "source": f"layers.0.{role}",
                "target": f"layers.0.{role}",
                "action": "kept",
                "energy_kept": 1.0,
                "norm_ratio": 1.0,
            }
            for role in roles
        ],
    }
    assert ual("validate", "out.air", "-q").code == 0
    ual("add", "out.air", "--name", "moved")
    assert [edge["relation"] for edge in ual("lineage", "moved", "--json").document["edges"]] == ["projected_from"]


def test_a_transfer_replaces_only_what_it_may(ual: Ual) -> None:
    Path("out.air").write_text("what stood here")
    result = ual("transfer", "small.air", "--to", "wide", "-o", "out.air")
    assert result == Result(
        11,
        "",
        "error [exists]: cannot write out.air: it exists already\n"
        "hint: choose another name, or pass --force to replace it\n",
    )
    assert ual("transfer", "small.air", "--to", "wide", "-o", "out.air", "--force").code == 0
    assert ual("validate", "out.air").code == 0


def test_show_says_which_experts_an_adapter_touches(ual: Ual) -> None:
    from dataclasses import replace

    from tests.handmade import base_model, entry, floats
    from ual_registry.air.adapter import Adapter

    (stack,) = base_model().stacks
    base = base_model(stacks=(replace(stack, num_experts=9, expert_intermediate_size=3),))
    entries, tensors = [], {}
    for layer, expert in ((0, 0), (0, 1), (0, 3), (1, 1), (1, 5), (1, 7)):
        names = {factor: f"layers.{layer}.mlp_up.experts.{expert}.{factor}" for factor in ("lora_A", "lora_B")}
        entries.append(entry("mlp_up", 4, 3, layer=layer, expert=expert, **names))
        tensors |= {names["lora_A"]: floats(2, 4), names["lora_B"]: floats(3, 2)}
    names = {factor: f"layers.0.moe_router.{factor}" for factor in ("lora_A", "lora_B")}
    entries.append(entry("moe_router", 4, 9, layer=0, **names))
    tensors |= {names["lora_A"]: floats(2, 4), names["lora_B"]: floats(9, 2)}
    ordered = tuple(sorted(entries, key=lambda item: item.key))
    made = small_adapter(base_model=base, entries=ordered, extra=(), features=())
    write(Adapter(made.manifest, tensors), Path("mixture.air"))

    assert ual("show", "mixture.air").out.splitlines()[-3:] == [
        "role        layers    experts    rank    scaling    out x in  by layer",
        "mlp_up      0-1       5          2       2          3 x 4     ##",
        "moe_router  0         -          2       2          9 x 4     #.",
    ]
    assert [role["experts"] for role in ual("show", "mixture.air", "--json").document["roles"]] == [[0, 1, 3, 5, 7], []]
