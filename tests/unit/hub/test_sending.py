"""What of a commit is sent after what, and how much the library of the Xet store may hold meanwhile."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import hf_xet  # type: ignore[import-untyped]
import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import _xet

from tests.hub_server.fixtures import HubEnvironment
from ual_registry.errors import HubError
from ual_registry.hub import sending
from ual_registry.hub.changes import Content
from ual_registry.hub.client import Hub
from ual_registry.hub.upload import CommitOrder, commit
from ual_registry.hub.xet_session import bound_uploads

NUMBERS = hashlib.shake_128(b"tensors").digest(3_000_000)
FILES = {"adapter.air": b"one header" + NUMBERS, "adapter_model.safetensors": b"a longer header" * 9 + NUMBERS}
BOUND = "HF_XET_CLIENT_AC_MAX_UPLOAD_CONCURRENCY"


def order_of(hub: Hub, folder: Path, *, like: str) -> CommitOrder:
    """Return an order for two files with the same numbers and a card."""
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    HfApi().create_repo("tester/a")
    air, weights = FILES
    contents = (
        Content.of_file(weights, folder / weights, like=like),
        Content.of_file(air, folder / air),
        Content.of_bytes("README.md", b"# Hi\n"),
    )
    return CommitOrder(parent=hub.pin("tester/a"), branch="main", contents=contents, summary="add", description="")


@pytest.mark.parametrize("hub_transport", ["xet"], indirect=True)
@pytest.mark.parametrize(
    ("like", "from_bytes", "is_once"),
    [("adapter.air", 2_000_000, True), ("adapter.air", 4_000_000, False), ("", 1, False), ("other.air", 1, False)],
)
def test_numbers_that_two_files_share_are_sent_once(
    hub_env: HubEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    like: str,
    from_bytes: int,
    is_once: bool,
) -> None:
    monkeypatch.setattr(sending, "_LATE_FROM_BYTES", from_bytes)
    hub = Hub.open()
    order = order_of(hub, tmp_path, like=like)
    hub_env.site.clear_log()
    commit(hub, order)
    assert {path: hub_env.site.repo("tester/a").files()[path] for path in FILES} == FILES
    sent = sum(seen.received_bytes for seen in hub_env.site.log.of("cas-xorb-put"))
    assert round(sent / len(NUMBERS)) == (1 if is_once else 2)
    assert hub_env.site.log.endpoints().count("preupload") == (2 if is_once else 1)


@pytest.mark.parametrize("hub_transport", ["xet"], indirect=True)
def test_a_push_that_ends_between_two_files_changes_nothing_and_goes_on_where_it_was(
    hub_env: HubEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_LATE_FROM_BYTES", 2_000_000)
    site, hub = hub_env.site, Hub.open()
    order = order_of(hub, tmp_path, like="adapter.air")
    for endpoint in ("cas-xorb-put", "cas-shard"):
        site.faults.add(endpoint, nth=2, times=None, status=403)
    with pytest.raises(HubError):
        commit(hub, order)
    assert site.repo("tester/a").tip == order.parent.commit
    site.faults.clear()
    site.clear_log()
    commit(hub, order)
    assert {path: site.repo("tester/a").files()[path] for path in FILES} == FILES
    assert sum(seen.received_bytes for seen in site.log.of("cas-xorb-put")) < len(NUMBERS) / 2


@pytest.mark.parametrize("hub_transport", ["lfs"], indirect=True)
def test_over_lfs_all_files_are_sent_side_by_side(
    hub_env: HubEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_LATE_FROM_BYTES", 1)
    hub = Hub.open()
    order = order_of(hub, tmp_path, like="adapter.air")
    hub_env.site.clear_log()
    commit(hub, order)
    assert hub_env.site.log.endpoints().count("preupload") == 1
    assert {path: hub_env.site.repo("tester/a").files()[path] for path in FILES} == FILES


@pytest.mark.parametrize(
    ("chosen", "bound"),
    [
        ({}, "2"),
        ({BOUND: "7"}, "7"),
        ({"HF_XET_FIXED_UPLOAD_CONCURRENCY": "3"}, None),
        ({"HF_XET_HIGH_PERFORMANCE": "1"}, None),
    ],
)
def test_what_is_sent_side_by_side_is_bounded_unless_somebody_chose(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], bound: str | None
) -> None:
    for name in (BOUND, "HF_XET_FIXED_UPLOAD_CONCURRENCY", "HF_XET_HIGH_PERFORMANCE", "HF_XET_HP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    seen: list[str | None] = []

    def session() -> Any:
        seen.append(os.environ.get(BOUND))
        return object()

    monkeypatch.setattr(hf_xet, "XetSession", session)
    monkeypatch.setattr(_xet, "_GLOBAL_XET_HOLDER", _xet.XetSessionHolder())
    before = dict(os.environ)
    bound_uploads()
    _xet.get_xet_session()  # type: ignore[no-untyped-call]
    assert (seen, dict(os.environ)) == ([bound], before)
