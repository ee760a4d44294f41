"""Fixtures that many tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are shared and slow, so no example has a deadline; in CI examples do not vary.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# Shells start what runs in the background with Ctrl-C ignored, which every command of a test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real input for development; a test that needs it is skipped where it is missing."""
    root = Path(os.environ.get("THRESHER_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip(f"no real data at {root / 'data'}; set THRESHER_SHARED")
    return root / "data"
