"""Push and pull beside the Hub's own client: the same server, the same files, in turns.

Targets: 20 files of 10 MB fetched and verified at 90 % of the rate of ``snapshot_download`` or more, which does not
verify, and the same for a whole pull, which also looks at every tensor and flushes to the disk; the same files pushed
at 95 % of the rate of ``create_commit`` alone or more; the header of an adapter shown by 3 requests and 256 KiB at
most; memory that does not grow with the file.

A push of an adapter with its PEFT pair makes the pair, too; the client finds it made.

The server is that of ``make hub``, in a process of its own on the same cores; large files travel plainly (lfs) or by
chunks (xet). A ratio is that of one round's two rates; the median of the rounds, and their range.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.hub_files import AIR_FILE, WIDTH, write_fresh, write_pair
from benchmarks.hub_memory import print_peaks
from benchmarks.measure import Times, in_turns, machine
from benchmarks.validate_many import random_adapter
from tests.hub_server.server import serve
from ual_registry.air.adapter import Adapter
from ual_registry.air.write import write

_TRANSPORTS = ("lfs", "xet")
_PULL_TARGET, _PUSH_TARGET = 0.90, 0.95
_SHOW_REQUESTS, _SHOW_BYTES = 3, 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Two things timed in turns.

    Attributes:
        title: What both do.
        amount: Bytes of one round.
        ours: Times of ours.
        theirs: Times of the Hub's client.
        target: The least share of its rate.
    """

    title: str
    amount: int
    ours: Times
    theirs: Times
    target: float

    def text(self) -> str:
        """Write both rates and their ratio."""
        ratios = sorted(peer / own for own, peer in zip(self.ours.samples, self.theirs.samples, strict=True))
        middle, low, high = (100 * each for each in (statistics.median(ratios), ratios[0], ratios[-1]))
        rates = [f"{self.amount / times.median / 1e6:7.0f} MB/s" for times in (self.ours, self.theirs)]
        return (
            f"{self.title:40}ours {rates[0]}, client {rates[1]}, {middle:.0f} % [{low:.0f}, {high:.0f}] of its rate "
            f"(target {100 * self.target:.0f} %)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    """A push that is compared.

    Attributes:
        name: What its repositories are called.
        title: What is pushed.
        adapter: The shapes of each AIR file.
        count: How many AIR files.
        ours: What pushes them, of which the first is an AIR file.
        has_pair: Whether the PEFT pair goes with it; the client gets it ready made.
    """

    name: str
    title: str
    adapter: Adapter
    count: int
    ours: Callable[[str, list[Path]], None]
    has_pair: bool = False


def _pull_all(work: Path, adapter: Adapter, *, count: int, runs: int) -> Iterator[_Compared]:
    """Fetch and verify, then pull into an empty registry, beside ``snapshot_download`` into an empty cache."""
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415  # reads its environment at import

    from ual_registry.hub.client import Hub  # noqa: PLC0415  # as above
    from ual_registry.hub.download import download  # noqa: PLC0415  # as above
    from ual_registry.registry.registry import Registry  # noqa: PLC0415  # as above
    from ual_registry.workflows.pull import pull  # noqa: PLC0415  # as above
    from ual_registry.workflows.pull_model import PullOptions  # noqa: PLC0415  # as above

    paths = write_fresh(work / "pulled", adapter, _names(count))
    api = HfApi()
    api.create_repo("tester/many")
    _commit_by_client("tester/many", paths)
    os.environ["UAL_HOME"] = str(work / "home")

    def prepare() -> None:
        for folder in ("home", "cache", "fetched"):
            shutil.rmtree(work / folder, ignore_errors=True)
        (work / "fetched").mkdir()
        Registry.open()
        os.sync()  # else a flush also waits for what the turn before left to be written or deleted

    def fetch() -> None:
        hub = Hub.open()
        snapshot = hub.pin("tester/many")
        assert len(download(hub, snapshot, list(snapshot.files.values()), work / "fetched")) > count

    def whole() -> None:
        result = pull("tester/many", PullOptions(all_of_them=True))
        assert len(result.adapters) == count, result.failed

    amount = sum(path.stat().st_size for path in paths)
    what = f"{count} files of {amount / count / 1e6:.0f} MB"
    for title, ours in ((f"fetch and verify {what}", fetch), (f"pull {what} into a registry", whole)):
        times = in_turns(
            [ours, lambda: snapshot_download("tester/many", cache_dir=work / "cache")], runs=runs, before=prepare
        )
        yield _Compared(title=title, amount=amount, ours=times[0], theirs=times[1], target=_PULL_TARGET)
    shutil.rmtree(work / "home")


def _names(count: int) -> list[str]:
    return [AIR_FILE] if count == 1 else [f"{number:02}.air" for number in range(count)]


def _commit_by_client(repository: str, paths: list[Path]) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi  # noqa: PLC0415  # reads its environment at import

    operations = [CommitOperationAdd(path.name, str(path)) for path in paths]
    HfApi().create_commit(repository, operations, commit_message="add")


def _commit_by_us(repository: str, paths: list[Path]) -> None:
    from ual_registry.hub.changes import Content  # noqa: PLC0415  # what reads the environment is imported late
    from ual_registry.hub.client import Hub  # noqa: PLC0415  # as above
    from ual_registry.hub.upload import CommitOrder, commit  # noqa: PLC0415  # as above

    hub = Hub.open()
    contents = tuple(Content.of_file(path.name, path) for path in paths)
    parent = hub.pin(repository)
    commit(hub, CommitOrder(parent=parent, branch="main", contents=contents, summary="add", description=""))


def _push_by_us(repository: str, paths: list[Path]) -> None:
    from ual_registry.workflows.push import push  # noqa: PLC0415  # as above
    from ual_registry.workflows.push_order import PushOptions  # noqa: PLC0415  # as above

    push(str(paths[0]), repository, PushOptions(air_only=len(paths) == 1, allow_unpinned=True))


def _push_all(work: Path, case: _Push, *, runs: int) -> _Compared:
    """Commit new files into a repository of their own; each side gets bytes that nobody has seen."""
    from huggingface_hub import HfApi  # noqa: PLC0415  # reads its environment at import
    from huggingface_hub.utils._xet import abort_xet_session  # noqa: PLC0415  # as above

    turn: list[tuple[str, list[Path]]] = []
    folder = work / "pushed"

    def prepare() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        paths = write_fresh(folder, case.adapter, _names(case.count))
        turn.append((f"tester/{case.name}-{len(turn)}", paths + (write_pair(paths[0]) if case.has_pair else [])))
        HfApi().create_repo(turn[-1][0])
        abort_xet_session()  # type: ignore[no-untyped-call]  # so that each side begins with its own settings
        os.sync()  # else one side waits for what the other left to be written or deleted

    times = in_turns([lambda: case.ours(*turn[-1]), lambda: _commit_by_client(*turn[-1])], runs=runs, before=prepare)
    amount = sum(path.stat().st_size for path in folder.iterdir())
    shutil.rmtree(folder)
    return _Compared(title=case.title, amount=amount, ours=times[0], theirs=times[1], target=_PUSH_TARGET)


def _pushes(*, is_quick: bool) -> tuple[_Push, ...]:
    count, width, size = (2, 1_000, "0") if is_quick else (20, WIDTH, "10")
    many, whole = random_adapter(1, width, "BF16"), "0" if is_quick else "200"
    one = random_adapter(1 if is_quick else count, width, "BF16")
    return (
        _Push(name="many", title=f"push {count} files of {size} MB", adapter=many, count=count, ours=_commit_by_us),
        _Push(name="one", title=f"push one of {whole} MB, with its card", adapter=one, count=1, ours=_push_by_us),
        _Push(
            name="pair",
            title=f"push one of {whole} MB, its pair and card",
            adapter=one,
            count=1,
            ours=_push_by_us,
            has_pair=True,
        ),
    )


def _show(work: Path, layers: tuple[int, ...], *, xet: bool) -> None:
    """Count what it takes to show the header of an adapter on the Hub."""
    with serve(work / "own-server", xet=xet) as site:
        environment = {**os.environ, "HF_ENDPOINT": site.endpoint, "HF_TOKEN": site.token}
        for count in layers:
            path = work / "shown.air"
            write(random_adapter(count, 64 if count > 1 else WIDTH, "BF16"), path)
            site.put("tester/shown", {"adapter.air": path})
            site.clear_log()
            command = [sys.executable, "-m", "ual_registry", "show", "hf:tester/shown", "--json"]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            sent = sum(exchange.sent_bytes for exchange in site.log)
            header = int.from_bytes(path.read_bytes()[:8], "little")
            print(
                f"show a header of {header / 1e3:.0f} kB, {7 * count} entries, of {path.stat().st_size / 1e6:.1f} MB: "
                f"{len(site.log)} requests (target {_SHOW_REQUESTS}), {sent / 1024:.0f} KiB "
                f"(target {_SHOW_BYTES // 1024})",
                flush=True,
            )


@contextlib.contextmanager
def _server(folder: Path, *, xet: bool) -> Iterator[dict[str, str]]:
    """Run a Hub in a process of its own, and give the variables that lead a client to it."""
    folder.mkdir()
    option = "--xet" if xet else "--no-xet"
    command = [sys.executable, "-m", "tests.hub_server", "--port", "0", option, "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            found: dict[str, str] = {}
            assert process.stdout is not None
            while "HF_TOKEN" not in found:
                line = process.stdout.readline()
                if not line:
                    raise click.ClickException("the Hub did not start")
                name, is_set, value = line.strip().removeprefix("export ").partition("=")
                found |= {name: value} if is_set else {}
            yield {**found, "HF_HUB_DISABLE_XET": "0" if xet else "1"}
        finally:
            process.terminate()


def _measure(work: Path, transport: str, *, is_quick: bool, parts: tuple[str, ...]) -> None:
    """Measure over one transport; the environment leads to a server."""
    count, runs = (2, 1) if is_quick else (20, 5)
    adapter = random_adapter(1, 1_000 if is_quick else WIDTH, "BF16")
    if "pull" in parts:
        for compared in _pull_all(work, adapter, count=count, runs=runs):
            print(compared.text(), flush=True)
    if "push" in parts:
        for case in _pushes(is_quick=is_quick):
            print(_push_all(work, case, runs=runs).text(), flush=True)
    if "show" in parts:
        _show(work, (1, 12, 64), xet=transport == "xet")
    if "memory" in parts:
        print_peaks(work, {"lfs": "LFS", "xet": "Xet"}[transport], (1,) if is_quick else (10, 20, 40, 80))


_PARTS = ("pull", "push", "show", "memory")


@click.command(help=__doc__)
@click.option("--transport", "transports", multiple=True, type=click.Choice(_TRANSPORTS), help="[default: both]")
@click.option("--part", "parts", multiple=True, type=click.Choice(_PARTS), help="[default: all]")
@click.option("--quick", is_flag=True, help="Few and small files: whether it runs, not how fast.")
@click.option("--inside", type=click.Choice(_TRANSPORTS), hidden=True)
def main(transports: tuple[str, ...], parts: tuple[str, ...], *, quick: bool, inside: str | None) -> None:
    parts = parts or _PARTS
    with tempfile.TemporaryDirectory(prefix="ual-hub-") as name:
        work = Path(name)
        if inside is not None:
            _measure(work, inside, is_quick=quick, parts=parts)
            return
        print(f"machine: {machine()}; load {os.getloadavg()[0]:.1f}; median [range]", flush=True)
        for transport in transports or _TRANSPORTS:
            print(f"\n{transport}:", flush=True)
            (work / transport).mkdir()
            with _server(work / transport / "server", xet=transport == "xet") as variables:
                _run_inside(work / transport, transport, variables, parts, is_quick=quick)


def _run_inside(
    work: Path, transport: str, variables: dict[str, str], parts: tuple[str, ...], *, is_quick: bool
) -> None:
    """Measure in a fresh process, since the client reads its environment when it is imported."""
    home = work / "hf-home"
    home.mkdir()
    (home / ".agent_harnesses.json").write_text(json.dumps({"standardEnvVars": [], "harnesses": {}}))
    own = {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    words = [word for part in parts for word in ("--part", part)] + (["--quick"] if is_quick else [])
    command = [sys.executable, "-m", "benchmarks.hub", "--inside", transport, *words]
    environment = {**os.environ, **own, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", **variables}
    subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
