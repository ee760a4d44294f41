"""What starting a job imports, and where."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from thresher.pipeline.operator import kernels_of
from thresher.pipeline.stage import OperatorRef
from thresher.pipeline.steps.text import Extract

SLOW = ("numba", "trafilatura", "fasttext", "resiliparse", "fastwarc")

PLAN = """
import json, sys
from thresher import load
from thresher.pipeline import runner
from thresher.pipeline.planner import plan
planned = plan(load(sys.argv[1]))
print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), planned.kernels]))
"""


def planned(folder: Path, steps: list[Any]) -> tuple[list[str], list[str]]:
    """The packages that a process has imported when it has planned a job, and what workers import."""
    (folder / "in.jsonl").write_text('{"id": "a", "page": "<p>One.</p>"}\n')
    source = {"path": "in.jsonl", "columns": {"html": "page"}}
    job = folder / "job.yaml"
    job.write_text(json.dumps({"name": "start", "input": source, "steps": steps, "output": {"path": "out"}}))
    done = subprocess.run([sys.executable, "-c", PLAN, job], capture_output=True, text=True, check=True)
    packages, kernels = json.loads(done.stdout)
    return packages, kernels


def test_the_process_that_plans_a_job_leaves_compilers_and_extractors_to_the_workers(tmp_path: Path) -> None:
    packages, kernels = planned(
        tmp_path,
        [
            {"extract": "hybrid"},
            {"language": {"keep": ["en"]}},
            {"filter": "gopher_repetition"},
            {"edit": "c4_lines"},
            {"filter": "c4"},
            {"signals": ["word_count"]},
            {"dedup": {"minhash": {"bands": 14, "rows": 8}}},
            {"dedup": "exact"},
        ],
    )
    assert "pyarrow" in packages
    assert [name for name in SLOW if name in packages] == []
    assert {"thresher.filters.text.measure", "thresher.filters.dedup.minhash", "trafilatura"} <= set(kernels)


@pytest.mark.parametrize(
    ("method", "module"),
    [
        ("resiliparse", "resiliparse.extract.html2text"),
        ("resiliparse_plain", "resiliparse.extract.html2text"),
        ("trafilatura", "trafilatura"),
        ("hybrid", "trafilatura"),
        ("hybrid", "thresher.filters.text.main_content"),
    ],
)
def test_the_library_of_an_extractor_is_imported_once_for_all_workers(method: str, module: str) -> None:
    assert module in kernels_of(OperatorRef.of(Extract, step="extract", method=method, library=""))
