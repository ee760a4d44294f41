"""A folder is brought into a store whole, whatever happens on the way; what is not ours is left alone."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from s3_server import Bucket
from store_proxy import ANSWERED, CORRUPT, CUT_AFTER, CUT_BEFORE, REFUSE, Handler
from thresher.pipeline import storage
from thresher.pipeline.ingest import JobRefused
from thresher.pipeline.storage import RemotePath, StorageError
from thresher.pipeline.upload import CLAIM, Upload
from thresher.schemas.progress import Silent

OUT = "s3://data/deep/out"
KEYS = "deep/out/"


def output(folder: Path, shards: int, more: dict[str, bytes] | None = None, salt: bytes = b"") -> Path:
    """A folder like an output, with random shards of some kilobytes."""
    files = {f"shard-{n:05d}.parquet": f"shard {n} ".encode() * 900 + salt for n in range(shards)}
    files |= {"ledger/part-00000.parquet": b"ledger" + salt, "report.md": b"# Report", **(more or {})}
    listed = sorted(name for name in files if not name.startswith("shard-"))
    manifest = {"shards": [{"path": name} for name in files if name.startswith("shard-")], "files": listed}
    files["manifest.json"] = json.dumps(manifest).encode()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def contents(folder: Path) -> dict[str, Path | RemotePath | bytes]:
    """The files of a folder as what is to be published; the manifest, which a run has in memory, as bytes."""
    found: dict[str, Path | RemotePath | bytes] = {name: folder / name for name in content(folder)}
    return found | {"manifest.json": (folder / "manifest.json").read_bytes()}


def upload(folder: Path, owner: str = "me") -> None:
    Upload(RemotePath(OUT), owner).publish(contents(folder), Silent())


def test_the_store_holds_the_bytes_of_the_folder_and_nothing_else(s3: Bucket, tmp_path: Path) -> None:
    upload(output(tmp_path / "a", 5))
    assert s3.objects(KEYS) == content(tmp_path / "a")


def test_the_manifest_is_the_last_file_of_the_output(s3: Bucket, tmp_path: Path) -> None:
    upload(output(tmp_path / "a", 5))
    puts = s3.proxy.puts()
    assert puts[0] == f"/data/deep/out/{CLAIM}"
    assert puts[-1] == "/data/deep/out/manifest.json"
    assert len(puts) == 1 + len(content(tmp_path / "a"))


def test_while_an_output_is_replaced_no_manifest_says_that_it_is_whole(s3: Bucket, tmp_path: Path) -> None:
    upload(output(tmp_path / "a", 3))
    seen: list[bool] = []

    def look(handler: Handler, number: int) -> str | None:
        if handler.command == "PUT" and "shard" in handler.path:
            with s3.proxy.lock:
                s3.proxy.fault = None
            seen.append("manifest.json" in s3.objects(KEYS) or CLAIM not in s3.objects(KEYS))
        return None

    s3.proxy.fault = look
    upload(output(tmp_path / "b", 3, salt=b"new"))
    assert seen == [False]
    assert s3.objects(KEYS) == content(tmp_path / "b")


def test_a_smaller_output_leaves_nothing_of_a_larger_one_behind(s3: Bucket, tmp_path: Path) -> None:
    keys = {"keys/dedup/scheme.json": b"{}", "keys/dedup/part-00000.parquet": b"keys"}
    upload(output(tmp_path / "a", 7, more=keys | {"ledger/part-00001.parquet": b"more"}))
    s3.put(KEYS + "notes.txt", b"mine")
    upload(output(tmp_path / "b", 2))
    assert s3.objects(KEYS) == content(tmp_path / "b") | {"notes.txt": b"mine"}


def test_strays_that_no_listing_shows_are_removed_all_the_same(
    s3: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(output(tmp_path / "a", 7))
    monkeypatch.setattr(RemotePath, "names", lambda self: [])
    upload(output(tmp_path / "b", 2))
    assert s3.objects(KEYS) == content(tmp_path / "b")


def test_an_output_that_is_there_already_is_not_touched(s3: Bucket, tmp_path: Path) -> None:
    upload(output(tmp_path / "a", 4))
    s3.proxy.requests.clear()
    upload(tmp_path / "a")
    assert {method for method, _ in s3.proxy.requests} <= {"GET", "HEAD"}


@pytest.mark.parametrize("fault", [REFUSE, CUT_BEFORE, CUT_AFTER, CORRUPT])
def test_what_fails_twice_is_sent_again_until_it_is_right(s3: Bucket, tmp_path: Path, fault: str) -> None:
    def fail(handler: Handler, number: int) -> str | None:
        corrupts_own = fault == CORRUPT and "shard" not in handler.path
        return fault if handler.command == "PUT" and number < 2 and not corrupts_own else None

    s3.proxy.fault = fail
    upload(output(tmp_path / "a", 3))
    s3.proxy.fault = None
    assert s3.objects(KEYS) == content(tmp_path / "a")
    assert len(s3.proxy.puts(r"shard-00001")) >= 3 - (fault == CUT_AFTER)


def test_reads_and_removals_that_fail_are_tried_again_too(s3: Bucket, tmp_path: Path) -> None:
    upload(output(tmp_path / "a", 5))
    s3.proxy.fault = lambda handler, number: REFUSE if number < 1 and handler.command != "PUT" else None
    upload(output(tmp_path / "b", 2))
    s3.proxy.fault = None
    assert s3.objects(KEYS) == content(tmp_path / "b")


def test_a_store_that_does_not_recover_is_named_and_the_rest_is_kept_for_the_next_run(
    s3: Bucket,
    tmp_path: Path,
) -> None:
    folder = output(tmp_path / "a", 6)
    s3.proxy.fault = lambda handler, number: (
        REFUSE if handler.command == "PUT" and "00005" in handler.path else None
    )
    with pytest.raises(StorageError) as told:
        upload(folder)
    assert (told.value.filename, "given up after 4 attempts" in str(told.value)) == (
        f"{OUT}/shard-00005.parquet",
        True,
    )
    s3.proxy.fault = None
    there = set(s3.objects(KEYS))
    assert "manifest.json" not in there
    s3.proxy.requests.clear()
    upload(folder)
    assert s3.objects(KEYS) == content(folder)
    sent = {path.removeprefix("/data/deep/out/") for path in s3.proxy.puts()}
    assert not sent & (there - {CLAIM, "manifest.json"})


def test_what_was_cut_off_leaves_nothing_in_an_output_that_then_turns_out_smaller(
    s3: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even where the listing shows nothing of it, and not what lay there before."""
    monkeypatch.setattr(RemotePath, "names", lambda self: [])
    upload(output(tmp_path / "before", 9))
    s3.proxy.fault = lambda handler, _: (
        REFUSE if handler.command == "PUT" and "00005" in handler.path else None
    )
    with pytest.raises(StorageError):
        upload(output(tmp_path / "large", 6, salt=b"new"))
    s3.proxy.fault = None
    with pytest.raises(JobRefused, match="another run writes to this output"):
        upload(output(tmp_path / "small", 2), owner="another")
    upload(tmp_path / "small")
    assert s3.objects(KEYS) == content(tmp_path / "small")


def test_a_missing_bucket_and_refused_access_are_told_at_once(s3: Bucket, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such bucket"):
        Upload(RemotePath("s3://nobody/out"), "me").publish(contents(output(tmp_path / "a", 1)), Silent())

    def refuse(handler: Handler, number: int) -> str | None:
        handler.answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        return ANSWERED

    s3.proxy.requests.clear()
    s3.proxy.fault = refuse
    with pytest.raises(StorageError, match="access is refused"):
        upload(tmp_path / "a")
    assert len(s3.proxy.requests) == 1


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "job.yaml", "ledger/part-00000.parquet", "shard-00000.jsonl.zst", "shard-00007.tar"],
)
def test_files_of_others_are_in_the_way_and_stay(s3: Bucket, tmp_path: Path, name: str) -> None:
    s3.put(KEYS + name, b"mine")
    with pytest.raises(JobRefused, match=f"{name} is in the way"):
        Upload(RemotePath(OUT), "me").check()
    with pytest.raises(JobRefused, match="is in the way"):
        upload(output(tmp_path / "a", 1))
    assert s3.objects(KEYS) == {name: b"mine"}


@pytest.mark.parametrize("name", ["shard-00000.parquet", "report.md"])
def test_files_of_others_that_no_listing_shows_are_found_by_name(
    s3: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    s3.put(KEYS + name, b"mine")
    monkeypatch.setattr(RemotePath, "names", lambda self: [])
    with pytest.raises(JobRefused, match=f"{name} is in the way"):
        Upload(RemotePath(OUT), "me").check()


def test_two_runs_do_not_write_to_one_output_at_a_time(s3: Bucket, tmp_path: Path) -> None:
    s3.put(KEYS + CLAIM, b'{"run": "another", "files": []}')
    with pytest.raises(JobRefused, match="another run writes to this output, or was cut off"):
        upload(output(tmp_path / "a", 2))
    assert set(s3.objects(KEYS)) == {CLAIM}


def test_of_two_runs_that_come_at_once_only_one_gets_the_output(s3: Bucket, tmp_path: Path) -> None:
    """The other one writes its claim after we have looked for one."""

    def steal(handler: Handler, number: int) -> str | None:
        if handler.command == "PUT" and CLAIM in handler.path:
            s3.proxy.fault = None
            s3.put(KEYS + CLAIM, b'{"run": "another", "files": []}')
        return None

    s3.proxy.fault = steal
    with pytest.raises(JobRefused, match="another run writes to this output"):
        upload(output(tmp_path / "a", 2))
    assert set(s3.objects(KEYS)) == {CLAIM}


def hold(s3: Bucket, method: str, name: str) -> tuple[threading.Event, threading.Event]:
    """Holds back the first such request from now on: the events say that it has come, and let it go."""
    came, go = threading.Event(), threading.Event()

    def wait(handler: Handler, number: int) -> None:
        if handler.command == method and handler.path.endswith(name) and not came.is_set():
            came.set()
            assert go.wait(30)

    s3.proxy.fault = wait
    return came, go


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("PUT", f"/{CLAIM}"),
        ("DELETE", "/manifest.json"),
        ("PUT", "/shard-00001.parquet"),
        ("PUT", "/manifest.json"),
        ("DELETE", f"/{CLAIM}"),
    ],
)
def test_of_two_runs_that_bring_the_same_neither_harms_what_the_other_has_finished(
    s3: Bucket, tmp_path: Path, method: str, name: str
) -> None:
    """One is held back anywhere while the other comes and goes: from then on, the output stays whole."""
    upload(output(tmp_path / "before", 4))
    folder = output(tmp_path / "a", 3, salt=b"new")
    came, go = hold(s3, method, name)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(upload, folder)
        assert came.wait(30)
        upload(folder)
        assert s3.objects(KEYS) == content(folder)
        go.set()
        slow.result(30)
    assert s3.objects(KEYS) == content(folder)


def test_who_was_overtaken_by_a_run_that_brings_something_else_gives_way(s3: Bucket, tmp_path: Path) -> None:
    came, go = hold(s3, "PUT", "/shard-00001.parquet")
    other = output(tmp_path / "b", 3, more={"job.yaml": b"other"}, salt=b"new")
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(upload, output(tmp_path / "a", 2))
        assert came.wait(30)
        other_came, other_go = hold(s3, "PUT", "/job.yaml")
        second = pool.submit(upload, other)
        assert other_came.wait(30)
        go.set()
        with pytest.raises(JobRefused, match="another run has begun to replace this output"):
            slow.result(30)
        other_go.set()
        second.result(30)
    assert "manifest.json" in s3.objects(KEYS)


def test_a_copy_of_many_parts_keeps_its_tag_and_is_known_by_it(
    s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_PART", 5 << 20)
    source = tmp_path / "large"
    source.write_bytes(os.urandom(11 << 20))
    here, there = RemotePath("s3://data/work/large"), RemotePath(OUT) / "large"
    here.put(source)
    assert not there.holds(here)
    there.copy(here)
    s3.proxy.requests.clear()
    assert there.holds(here)
    assert {method for method, _ in s3.proxy.requests} == {"HEAD"}
    assert there.holds(source)
    here.write_bytes(b"another")
    assert not there.holds(here)


def test_what_is_not_there_cannot_be_copied(s3: Bucket) -> None:
    with pytest.raises(FileNotFoundError):
        RemotePath(f"{OUT}/a").copy(RemotePath("s3://data/nothing"))


def test_a_file_that_another_has_replaced_is_not_removed_by_the_tag_of_its_predecessor(s3: Bucket) -> None:
    file = RemotePath(f"{OUT}/a")
    file.write_bytes(b"first")
    first = file.tag()
    file.write_bytes(b"second")
    assert not file.remove(first)
    assert file.read_bytes() == b"second"
    assert file.remove(file.tag())
    assert file.tag() is None
    assert file.remove(first)


def test_a_store_that_knows_no_conditional_removal_removes(s3: Bucket) -> None:
    def refuse(handler: Handler, number: int) -> str | None:
        if handler.command == "DELETE" and "If-Match" in handler.headers:
            handler.answer(501, b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>")
            return ANSWERED
        return None

    file = RemotePath(f"{OUT}/a")
    file.write_bytes(b"first")
    tag = file.tag()
    s3.proxy.fault = refuse
    assert file.remove(tag)
    assert file.tag() is None


def test_a_store_that_does_not_say_which_condition_failed_is_understood(s3: Bucket) -> None:
    """As some do that are not Amazon's."""

    def bare(handler: Handler, number: int) -> str | None:
        if handler.command == "PUT" and "If-None-Match" in handler.headers and s3.objects(KEYS):
            handler.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return ANSWERED
        return None

    s3.proxy.fault = bare
    file = RemotePath(f"{OUT}/a")
    assert file.create(b"first", strict=True)
    assert not file.create(b"second", strict=True)
    assert file.create(b"first", strict=True), "it is there with just this content"


def test_a_listing_of_before_does_not_hide_what_is_there_now(s3: Bucket) -> None:
    assert RemotePath(OUT).names() == []
    s3.put(f"{KEYS}a", b"content")
    assert (RemotePath(OUT) / "a").read_bytes() == b"content"
    assert (RemotePath(OUT) / "a").size() == 7


def test_an_object_of_many_parts_is_known_again(
    s3: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "_PART", 5 << 20)
    source = tmp_path / "large"
    source.write_bytes(os.urandom(11 << 20))
    target = RemotePath(OUT) / "large"
    target.put(source)
    assert len(s3.proxy.puts("large")) == 3
    s3.proxy.requests.clear()
    assert target.holds(source)
    assert not [path for method, path in s3.proxy.requests if method == "GET"], "its tag says enough"
    changed = bytearray(source.read_bytes())
    changed[-1] ^= 1
    source.write_bytes(changed)
    assert not target.holds(source)


def test_an_object_whose_tag_is_no_digest_of_it_is_read_back(
    s3: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "a"
    source.write_bytes(os.urandom(100_000))
    target = RemotePath(OUT) / "a"
    target.put(source)
    ask = RemotePath._info
    tag: dict[str, Any] = {"ETag": '"0123456789abcdef0123456789abcdef"'}
    monkeypatch.setattr(RemotePath, "_info", lambda self: {**(ask(self) or {}), **tag})
    assert target.holds(source)
    source.write_bytes(source.read_bytes()[:-1] + b"?")
    assert not target.holds(source)


def test_names_outside_an_output_in_a_foreign_manifest_are_not_removed(s3: Bucket, tmp_path: Path) -> None:
    s3.put(KEYS + "notes.txt", b"mine")
    s3.put(
        KEYS + "manifest.json", b'{"shards": [{"path": "notes.txt"}], "files": ["../../other", "notes.txt"]}'
    )
    upload(output(tmp_path / "a", 1))
    assert s3.objects(KEYS) == content(tmp_path / "a") | {"notes.txt": b"mine"}


def test_stores_that_know_no_digest_hold_the_same(tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for count, salt in ((4, b"old"), (2, b"new")):
        folder = output(tmp_path / salt.decode(), count, salt=salt)
        Upload(RemotePath("memory://upload/out"), "me").publish(contents(folder), Silent())
        found = {name.removeprefix("/upload/out/"): store.cat(name) for name in store.find("/upload/out")}
        assert found == content(folder)
    store.rm("/upload", recursive=True)


def test_a_url_survives_the_path_that_a_command_line_makes_of_it() -> None:
    assert (
        str(storage.place(Path("s3://bucket/out/shard-00000.parquet")))
        == "s3://bucket/out/shard-00000.parquet"
    )
    assert storage.place(Path("/a/b")) == Path("/a/b")
    assert storage.place("file:///a/b") == Path("/a/b")
