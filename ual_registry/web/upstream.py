"""The server behind a proxy: under which name it has an adapter, and how it gets one that it does not have."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from ual_registry.web.failure import HttpError

__all__ = ["Supply", "Upstream"]

_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
_DIGITS = 16
_MOST_NAMES = 4096
"""Adapters that are remembered; one that was forgotten is brought again, which changes nothing where it is there."""
_LOADED_ALREADY = "already been loaded"
"""What vLLM says where somebody else loaded an adapter of this name."""

Export = Callable[[str, Path], None]
"""Writes the adapter of a digest to a folder that vLLM can load."""


class Supply(StrEnum):
    """How an adapter comes to the server behind."""

    NONE = "none"
    """It is there already, under the name of its domain."""
    API = "api"
    """It is loaded through vLLM's ``/v1/load_lora_adapter``."""
    RESOLVER = "resolver"
    """It is written to the folder of vLLM's file system resolver."""


class Upstream:
    """An OpenAI-compatible server that holds many adapters; used in one event loop.

    An adapter is named by its digest there, so that an alias that moves leads to another name and never to old bytes.

    Args:
        url: Its address, without ``/v1``.
        supply: How adapters come to it.
        folder: Where adapters are written for it; it must see the same folder.
        export: Writes one.
        names: Names of models by domain, where they are not those of the domains.
        base: The name of its base model; the first that it lists where absent.
        transport: Stands in for the network in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        supply: Supply = Supply.NONE,
        folder: Path | None = None,
        export: Export | None = None,
        names: Mapping[str, str] | None = None,
        base: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.supply = supply
        self._folder, self._export, self._names, self._base = folder, export, dict(names or {}), base
        self._bringing: dict[str, asyncio.Task[None]] = {}
        self._made: OrderedDict[str, bool] = OrderedDict()  # whether the server has it, by name; the last used last
        self.client = httpx.AsyncClient(
            base_url=url.rstrip("/"), timeout=_TIMEOUT, trust_env=False, transport=transport
        )

    async def base_name(self) -> str:
        """Return the name of the base model.

        Raises:
            HttpError: The server cannot be asked, or lists none.
        """
        if self._base is None:
            listed = await self.models({})
            found = next((model for model in listed if not model.get("parent")), None)
            if found is None:
                raise HttpError(502, "upstream_error", "the server behind lists no base model")
            self._base = str(found["id"])
        return self._base

    async def models(self, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the models that the server lists.

        Raises:
            HttpError: It cannot be asked.
        """
        try:
            answer = await self.client.get("/v1/models", headers=dict(headers))
            found = answer.raise_for_status().json()["data"]
            return [model for model in found if isinstance(model, dict) and isinstance(model.get("id"), str)]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise HttpError(502, "upstream_error", "the server behind does not list its models") from error

    def model_of(self, domain: str) -> str:
        """Return the name of the model that answers a domain where the server has its adapters already."""
        return self._names.get(domain, domain)

    async def name_of(self, digest: str | None, domain: str | None) -> str:
        """Return the name of an adapter, once the server has it.

        Args:
            digest: The adapter.
            domain: Its domain, where it was routed.

        Raises:
            HttpError: The server cannot load it.
            UALError: It cannot be written.
        """
        if self.supply is Supply.NONE or digest is None:
            return self.model_of(domain or "")
        name = f"ual-{digest.removeprefix('sha256:')[:_DIGITS]}"
        is_there = self._made.get(name, False)
        self._note(name, is_there=is_there)
        if not is_there:
            # All who ask at once wait for one task, which goes on where any of them leaves.
            await asyncio.shield(self._brought(digest, name))
        return name

    def forget(self, name: str) -> bool:
        """Take note that the server has not got an adapter any more; tell whether it can be brought once more.

        It can where this proxy made the name, also where another request has noted the same already.
        """
        if name not in self._made:
            return False
        self._made[name] = False
        return self.supply is Supply.API

    async def close(self) -> None:
        """Bring nothing any more, and close the connections."""
        tasks = list(self._bringing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()

    def _brought(self, digest: str, name: str) -> asyncio.Task[None]:
        """Return the task that brings an adapter, begun unless it runs already."""
        task = self._bringing.get(name)
        if task is None:
            task = self._bringing[name] = asyncio.create_task(self._bring(digest, name))
            task.add_done_callback(partial(self._ended, name))
        return task

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self._bringing[name]
        if not task.cancelled():
            task.exception()  # those who wait are told; where all have left, nobody asks for it

    async def _bring(self, digest: str, name: str) -> None:
        assert self._folder is not None  # a supply comes with a folder and an export
        assert self._export is not None
        folder = self._folder / name
        if not folder.is_dir():
            await asyncio.to_thread(self._export, digest, folder)
        if self.supply is Supply.API:
            await self._load(name, folder)
        self._note(name, is_there=True)

    def _note(self, name: str, *, is_there: bool) -> None:
        """Remember an adapter as the last one used."""
        self._made[name] = is_there
        self._made.move_to_end(name)
        if len(self._made) > _MOST_NAMES:
            self._made.popitem(last=False)

    async def _load(self, name: str, folder: Path) -> None:
        try:
            answer = await self.client.post(
                "/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(folder.absolute())}
            )
        except httpx.HTTPError as error:
            raise HttpError(502, "upstream_unreachable", "the server behind cannot be reached") from error
        if answer.is_error and _LOADED_ALREADY not in answer.text:
            shown = answer.text[:200]
            raise HttpError(
                502, "upstream_load", f"the server behind does not load {name}: {answer.status_code} {shown}"
            )
