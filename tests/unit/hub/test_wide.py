"""The Hub's client reads more at once while this program uses it, and as ever at other times."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from ual_registry.hub import conduct
from ual_registry.hub.conduct import Conduct, conducting
from ual_registry.hub.wide import READ_BYTES, widen


@dataclass
class Network:
    """Connections that note what is read."""

    reads: list[tuple[int, float | None]] = field(default_factory=list)

    def connect_tcp(self, host: str, port: int, **_: Any) -> Network:
        assert (host, port) == ("127.0.0.1", 80)
        return self

    def sleep(self, seconds: float) -> float:
        return seconds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.reads.append((max_bytes, timeout))
        return b"data"

    def start_tls(self) -> Network:
        return self


def client_of(network: Network) -> Any:
    transport = SimpleNamespace(_pool=SimpleNamespace(_network_backend=network))
    return SimpleNamespace(_transport=transport, _mounts={"all://": None})


@pytest.mark.parametrize(("is_meant", "least"), [(True, READ_BYTES), (False, 64)])
def test_a_read_takes_more_where_that_is_meant(is_meant: bool, least: int) -> None:
    network = Network()
    client = client_of(network)
    widen(client, lambda: is_meant)
    backend = client._transport._pool._network_backend
    stream = backend.connect_tcp("127.0.0.1", 80, timeout=1.0)
    assert (stream.read(64, timeout=2.0), stream.read(2 * READ_BYTES)) == (b"data", b"data")
    assert network.reads == [(least, 2.0), (2 * READ_BYTES, None)]
    assert (backend.sleep(3.0), stream.start_tls()) == (3.0, network)


@pytest.mark.parametrize("client", [object(), SimpleNamespace(_transport=object(), _mounts={"all://": None})])
def test_a_client_that_is_built_otherwise_stays_as_it_is(client: Any) -> None:
    before = dict(getattr(client, "__dict__", {}))
    widen(client, lambda: True)
    assert dict(getattr(client, "__dict__", {})) == before


def test_the_real_client_reads_more_only_while_it_works_for_us() -> None:
    network = Network()
    pools = []
    client = conduct._client()
    try:
        for transport in (client._transport, *filter(None, client._mounts.values())):
            backend = transport._pool._network_backend
            backend._inner = network
            pools.append(backend.connect_tcp("127.0.0.1", 80))
    finally:
        client.close()
    for stream in pools:
        stream.read(64)
        with conducting(Conduct()):
            stream.read(64)
    assert network.reads == [(64, None), (READ_BYTES, None)] * len(pools)
    assert pools
