"""A mirror of weights on this machine."""

import pytest
from support.weights_server import WeightsServer


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """An empty mirror, and a cache of its own."""
    monkeypatch.setenv("KERAZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAZOO_OFFLINE", raising=False)
    with WeightsServer() as server:
        monkeypatch.setenv("KERAZOO_MIRROR", server.url)
        yield server
