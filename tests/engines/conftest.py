"""The modules of this folder for its tests and their workers, and the engines as they are set up here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from engine_settings import OPENED, Setting  # noqa: E402


@pytest.fixture(scope="module")
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """An engine with the services that it needs, by its name in OPENED."""
    with OPENED[request.param](tmp_path_factory.mktemp("setting")) as opened:
        yield opened
