from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from urllib.parse import unquote

import pytest

from .web_server import Handler, Server

pytest.importorskip("huggingface_hub", reason="hf:// needs huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "datasets/org/name"

# The hub's address is read when huggingface_hub is first imported, hence a process of its own.
READ = """
import sys
from thresher.pipeline.sources import ContainerCounts, SourceError, expand, plan_splits, read
from thresher.pipeline.sources.files import guess_format
try:
    for file in expand(sys.argv[1]):
        for split in plan_splits(file, guess_format(file.path), {}):
            for batch in read(split, ContainerCounts()):
                print(file.path, file.size, *batch["id"].to_pylist())
except SourceError as error:
    print("refused", error)
"""


def stand_in(web: Server, files: dict[str, bytes]) -> None:
    """The hub's answers that reading a data set needs: the repository, its tree, paths, and files."""

    def entry(name: str) -> dict[str, object]:
        blob = hashlib.sha1(files[name]).hexdigest()
        return {"type": "file", "path": name, "size": len(files[name]), "oid": blob}

    def answer(request: Handler, value: object) -> None:
        body = json.dumps(value).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def api(request: Handler, number: int) -> bool:
        path = unquote(request.path.partition("?")[0])
        root = f"/api/{REPOSITORY}"
        if path in (root, f"{root}/revision/main", f"{root}/revision/{COMMIT}"):
            answer(request, {"id": "org/name", "sha": COMMIT, "siblings": [], "tags": [], "private": False})
        elif path.startswith(f"{root}/tree/"):
            folder = path.removeprefix(f"{root}/tree/").partition("/")[2]
            inside = [name for name in files if name.startswith(folder)]
            answer(
                request,
                [{"type": "directory", "path": "data", "size": 0, "oid": "0"}] * (not folder)
                + [entry(name) for name in inside],
            )
        elif path.startswith(f"{root}/paths-info/"):
            length = int(request.headers["Content-Length"])
            wanted = unquote(request.rfile.read(length).decode())
            answer(request, [entry(name) for name in files if name in wanted])
        elif "/resolve/" in path and path.split("/resolve/main/")[-1] in files:
            if request.headers["Authorization"] != "Bearer hf_secret":
                request.refuse(401)
            elif number == 1:
                request.refuse(503)
            else:
                request.give(files[path.split("/resolve/main/")[-1]])
        else:
            request.refuse(404, X_Error_Code="EntryNotFound")
        return True

    web.every = api


def run(web: Server, path: str, token: str = "hf_secret") -> list[str]:
    environment = os.environ | {
        "HF_ENDPOINT": web.address,
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


FILES = {
    "data/a.jsonl": b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n',
    "data/b.jsonl": b'{"id": "3", "text": "c"}\n',
    "README.md": b"a card",
}


def test_files_of_a_data_set_are_found_by_glob_and_read_with_the_token(web: Server) -> None:
    stand_in(web, FILES)
    told = run(web, f"hf://{REPOSITORY}/data/*.jsonl")
    assert told == [f"hf://{REPOSITORY}/data/a.jsonl 50 1 2", f"hf://{REPOSITORY}/data/b.jsonl 25 3"]


def test_one_file_of_a_data_set_is_read(web: Server) -> None:
    stand_in(web, FILES)
    assert run(web, f"hf://{REPOSITORY}/data/b.jsonl") == [f"hf://{REPOSITORY}/data/b.jsonl 25 3"]


def test_a_file_that_the_data_set_lacks_and_a_wrong_token_are_refused(web: Server) -> None:
    stand_in(web, FILES)
    [missing] = run(web, f"hf://{REPOSITORY}/data/none.jsonl")
    assert missing.startswith("refused hf://datasets/org/name/data/none.jsonl: no file matches")
    [refused] = run(web, f"hf://{REPOSITORY}/data/a.jsonl", token="hf_wrong")
    assert refused.startswith("refused hf://datasets/org/name/data/a.jsonl: access is refused")
