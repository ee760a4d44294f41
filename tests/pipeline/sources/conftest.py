from __future__ import annotations

from collections.abc import Iterator

import pytest

from .web_server import Server, serving


@pytest.fixture
def web(impatient: None) -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four attempts, hundredths of a second apart, and dead after a second without a byte."""
    monkeypatch.setenv("THRESHER_READ_ATTEMPTS", "4")
    monkeypatch.setenv("THRESHER_READ_BACKOFF", "0.01")
    monkeypatch.setenv("THRESHER_READ_TIMEOUT", "1")
