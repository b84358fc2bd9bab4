"""Both sides of a push or a pull: what the Hub holds, and everything that a command may have left here."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server.fixtures import HubEnvironment
from tests.hub_server.server import HubSite
from ual_registry.cli.main import run
from ual_registry.digest import Digest
from ual_registry.registry.registry import Registry

__all__ = ["NOTHING", "REPOSITORY", "Here", "Material", "Result", "Scene", "There"]

REPOSITORY = "tester/medical"
_CLIENTS_OWN = re.compile(r"\.agent_harnesses\.json|xet/(logs|[^/]+/(shard-cache|staging/shard-session/.*))/[^/]+")
"""Files of the client in its home that hold nothing of what it fetched or sent, but for the names of chunks."""

Link = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """A small adapter in both forms.

    Attributes:
        air: The AIR file.
        pair: The PEFT pair that it was made of, by name.
        base: The config of its base model.
    """

    air: bytes
    pair: Mapping[str, bytes]
    base: bytes

    @property
    def digest(self) -> str:
        """Digest of the AIR file."""
        return str(Digest.of_bytes(self.air))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """What is said of an error."""
        found: dict[str, Any] = self.document["error"]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Everything that is on this side.

    Attributes:
        revisions: Name, number and digest of every revision.
        links: Digest, commit, path and direction of every link to the repository.
        blobs: Digests of the stored bytes, each of which has them.
        left: What should not be there: in the staging folder, in the folder for temporary files, in the client's
            caches, and what ``fsck`` and ``gc`` find.
    """

    revisions: tuple[tuple[str, int, str], ...] = ()
    links: tuple[Link, ...] = ()
    blobs: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


NOTHING = Here()


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """Everything that is in the repository.

    Attributes:
        titles: Titles of its commits, newest first, the first one left out.
        files: Bytes by path, without what every repository begins with.
        tags: Commit by tag.
    """

    titles: tuple[str, ...] = ()
    files: Mapping[str, bytes]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A Hub, a registry, and the adapter that goes from one to the other.

    Attributes:
        env: The environment of the client.
        material: The adapter.
        scratch: The folder for temporary files of the commands.
        capture: What takes what commands say in this process.
    """

    env: HubEnvironment
    material: Material
    scratch: Path
    capture: pytest.CaptureFixture[str]

    @property
    def site(self) -> HubSite:
        """The Hub."""
        return self.env.site

    def run(self, *words: object) -> Result:
        """Run a command in this process, with ``--json``; a traceback is never right, nor is a token."""
        self.capture.readouterr()
        code = run([*map(str, words), "--json"])
        caught = self.capture.readouterr()
        return self.checked(Result(code=code, out=caught.out, err=caught.err))

    def start(self, *words: object, shell: str = "") -> subprocess.Popen[str]:
        """Start a command in a process of its own, with ``--json``; ``shell`` runs before it."""
        command = [sys.executable, "-m", "ual_registry", *map(str, words), "--json"]
        return subprocess.Popen(
            ["bash", "-c", f'{shell}exec "$@"', "bash", *command],
            # Processes that are killed write no coverage, and those that are not cover nothing new.
            env={key: value for key, value in os.environ.items() if not key.startswith("COV")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Result:
        """Wait for a command in a process of its own."""
        out, err = process.communicate(timeout=120)
        return self.checked(Result(code=process.returncode, out=out, err=err))

    def checked(self, result: Result) -> Result:
        """Return what a command said, unless it is what no command may say."""
        said = result.out + result.err
        assert "Traceback" not in said
        assert "internal error" not in said
        for token in self.site.hub.accounts:
            assert token not in said
        return result

    def fill(self) -> str:
        """Put the AIR file into the repository, and return the commit."""
        return self.site.put(REPOSITORY, {"adapter.air": self.material.air})

    def fill_pair(self) -> str:
        """Put the PEFT pair into the repository and its base model beside it, and return the pair's commit."""
        self.site.put("team/base", {"config.json": self.material.base})
        return self.site.put(REPOSITORY, self.material.pair)

    def register(self) -> None:
        """Put the AIR file into the registry as ``t``."""
        path = self.scratch.parent / "t.air"
        path.write_bytes(self.material.air)
        Registry.open().add(path, name="t")

    def here(self) -> Here:
        """Look at this side."""
        registry = Registry.open()
        records = [record for item in registry.list().items for record in registry.revisions(item.name).items]
        left = [f"staging: {path.name}" for path in registry.blobs.walk_staging()]
        left += [f"garbage: {item}" for item in registry.gc(grace=datetime.timedelta(0)).garbage]
        left += [f"fault: {item}" for item in registry.fsck(deep=True).faults]
        return Here(
            revisions=tuple(sorted((record.name, record.number, record.digest) for record in records)),
            links=tuple((link.digest, link.commit, link.path, link.direction) for link in registry.linked(REPOSITORY)),
            blobs=tuple(str(digest) for digest in registry.blobs.walk()),
            left=(*left, *self.strays()),
        )

    def strays(self) -> list[str]:
        """Name what was left in the folder for temporary files and in the client's home."""
        files = [str(path.relative_to(self.env.home)) for path in self.env.home.rglob("*") if path.is_file()]
        kept = [name for name in files if not _CLIENTS_OWN.fullmatch(name)]
        scratch = [str(path.relative_to(self.scratch)) for path in self.scratch.rglob("*")]
        return sorted([*kept, *(name for name in scratch if name != f"ual-push-{os.getuid()}")])

    def there(self) -> There | None:
        """Look at the repository; ``None`` where there is none."""
        if not self.site.has(REPOSITORY):
            return None
        repository = self.site.repo(REPOSITORY)
        files = {path: data for path, data in repository.files().items() if path != ".gitattributes"}
        return There(
            titles=tuple(commit.title for commit in repository.commits[:-1]), files=files, tags=dict(repository.tags)
        )
