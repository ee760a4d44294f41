"""Downloads by img2dataset, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ...filters.image.header import sniff
from ...schemas.images import Download
from ..scratch import scratch
from .address import BadAddress, RefusedAddress, check_literal, parse
from .bodies import Bodies, Body
from .outcome import OPTED_OUT, Outcome, now

PYTHON: Final = "THRESHER_IMG2DATASET_PYTHON"  # an executable that can import it; ours where it is not set

_SHARD: Final = 1000  # addresses
_START: Final = 120.0  # seconds for what is not downloading
_AGENT: Final = "thresher"
# img2dataset imports albumentations, which asks the network for its newest version otherwise.
_ENVIRONMENT: Final = {"NO_ALBUMENTATIONS_UPDATE": "1"}
_PROGRAM: Final = """
import json, sys
from img2dataset import download
if __name__ == "__main__":
    download(**json.load(sys.stdin))
"""
# What urllib says, as img2dataset hands it on.
_REASONS: Final = (
    (re.compile(r"disallowed by X-Robots-Tag"), OPTED_OUT),
    (re.compile(r"timed out"), "timeout"),
    (re.compile(r"CERTIFICATE|SSL"), "tls_failure"),
    (re.compile(r"infinite loop"), "too_many_redirects"),
    (re.compile(r"Name or service|Temporary failure in name|No address associated|nodename"), "dns_failure"),
)
_STATUS: Final = re.compile(r"HTTP Error (\d{3})")


class Img2DatasetFailure(Exception):
    """img2dataset is not there, or its run came to nothing; the message says what to do."""


class Img2Dataset:
    """A Downloader that hands lists of addresses to img2dataset and reads what it writes to a scratch folder.

    Of our limits only `concurrency`, `timeout`, `retries` and `opt_out` hold while it downloads, `max_bytes`
    afterwards, and `deadline` for all of them together. It gets addresses of http and https alone and none of
    private networks by number, but a name or a redirect may lead it anywhere.
    """

    def __init__(self, options: Download) -> None:
        self._options = options
        self._bodies = Bodies()
        self._asked: list[tuple[int, str]] = []
        self._outcomes: dict[int, Outcome] = {}

    def submit(self, rows: Sequence[tuple[int, str | None]]) -> None:
        """See Downloader.submit."""
        for row, url in rows:
            try:
                target = parse(url)
                check_literal(target, self._options.allow)
                self._asked.append((row, target.url))
            except BadAddress as error:
                self._outcomes[row] = Outcome(now(), "bad_url", str(error))
            except RefusedAddress as error:
                self._outcomes[row] = Outcome(now(), "refused_address", str(error))

    def outcome(self, row: int) -> Outcome:
        """See Downloader.outcome. The first one that is not there yet waits for all that were submitted."""
        if row not in self._outcomes:
            asked, self._asked = self._asked, []
            folder = scratch() / f"{uuid.uuid4().hex}.img2dataset"
            folder.mkdir()
            try:
                self._run(folder, asked)
                for found, outcome in self._read(folder / "found"):
                    self._outcomes[found] = outcome
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            for missing, _ in asked:
                unsaid = Outcome(now(), "download_failed", "img2dataset says nothing of it")
                self._outcomes.setdefault(missing, unsaid)
        return self._outcomes.pop(row)

    def close(self) -> None:
        """Removes what nobody has asked for."""
        for outcome in self._outcomes.values():
            if outcome.body is not None:
                outcome.body.drop()
        self._outcomes.clear()

    def _run(self, folder: Path, asked: Sequence[tuple[int, str]]) -> None:
        table = pa.table({"url": [url for _, url in asked], "row": [row for row, _ in asked]})
        pq.write_table(table, folder / "asked.parquet")
        arguments = {
            "url_list": str(folder / "asked.parquet"),
            "output_folder": str(folder / "found"),
            "input_format": "parquet",
            "output_format": "parquet",
            "save_additional_columns": ["row"],
            "resize_mode": "no",
            "disable_all_reencoding": True,
            "extract_exif": False,
            "compute_hash": None,
            "processes_count": 1,
            "thread_count": self._options.concurrency,
            "number_sample_per_shard": _SHARD,
            "timeout": max(1, round(self._options.timeout)),
            "retries": self._options.retries,
            "user_agent_token": _AGENT,
            "disallowed_header_directives": list(self._options.opt_out),
        }
        turns = -(-len(asked) // self._options.concurrency)
        seconds = _START + turns * self._options.deadline * (self._options.retries + 1)
        python = os.environ.get(PYTHON) or sys.executable
        try:
            process = subprocess.Popen(
                [python, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,  # it starts processes, which end with it
            )
        except OSError as error:
            raise Img2DatasetFailure(f"{PYTHON}={python}: {error.strerror}") from error
        try:
            _, said = process.communicate(json.dumps(arguments), timeout=seconds)
        except subprocess.TimeoutExpired:
            return  # what is complete counts
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            raise Img2DatasetFailure(_explained(process.returncode, said))

    def _read(self, folder: Path) -> Iterator[tuple[int, Outcome]]:
        columns = ["row", "url", "status", "error_message", "jpg"]
        for path in sorted(folder.glob("*.parquet")):
            try:
                file = pq.ParquetFile(path)
            except pa.ArrowInvalid:  # not finished
                continue
            with file:
                for group in range(file.metadata.num_row_groups):
                    for found in file.read_row_group(group, columns=columns).to_pylist():
                        yield found["row"], self._outcome(found["url"], found["error_message"], found["jpg"])

    def _outcome(self, url: str, error: str | None, data: bytes | None) -> Outcome:
        if error is not None or data is None:
            status = _STATUS.search(error or "")
            code = int(status[1]) if status else None
            return Outcome(now(), _reason(error or ""), error, status=code, final_url=url, attempts=1)
        refused = self._refused(data)
        if refused is not None:
            return Outcome(now(), *refused, status=200, final_url=url, attempts=1)
        body = Body(self._bodies)
        body.add(data)
        body.end()
        return Outcome(now(), body=body, size=len(data), status=200, final_url=url, attempts=1)

    def _refused(self, data: bytes) -> tuple[str, str | None] | None:
        if not data:
            return "empty_body", None
        if len(data) > self._options.max_bytes:
            return "too_large", f"{len(data)} bytes, at most {self._options.max_bytes}"
        kind = sniff(data)
        if kind is None:
            return "not_an_image", f"begins with {data[:24]!r}"
        return (kind, None) if kind in ("svg", "html") else None


def _explained(status: int, said: str) -> str:
    if "No module named 'img2dataset'" in said:
        return (
            "download: {with: img2dataset} needs img2dataset: pip install img2dataset. Where it does not get "
            f"along with what is installed here, install it elsewhere and set {PYTHON} to that python"
        )
    return f"img2dataset ended with status {status}: {''.join(said.strip().splitlines()[-1:])[:500]}"


def _reason(error: str) -> str:
    for pattern, reason in _REASONS:
        if pattern.search(error):
            return reason
    status = _STATUS.search(error)
    return f"http_{status[1]}" if status else "connection_failed"
