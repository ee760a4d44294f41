"""What training a KenLM model takes, built once where it is missing."""

from __future__ import annotations

import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers import kenlm_tools


@pytest.fixture(scope="session")
def lmplz() -> kenlm_tools.KenLMTools:
    """lmplz and build_binary; a test that needs them is skipped where they can be neither found nor built."""
    pytest.importorskip("kenlm", reason="needs the package kenlm")
    pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")
    try:
        return kenlm_tools.find()
    except AssetError:
        pass
    try:
        return kenlm_tools.build()
    except kenlm_tools.BuildError as error:
        pytest.skip(f"no lmplz, and it cannot be built here: {error}")
