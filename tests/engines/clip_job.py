"""One image-text job whose pairs are chosen by a CLIP model and its embeddings, and what it leaves."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import thresher
from engine_settings import Setting
from PIL import Image

PICTURES, COPIES, SIDE = 160, 30, 64
SAME = 0.9988  # cosine that about half of the copies have
NEAR = 0.983  # what all copies have, and next to no others
MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
STEPS = ("semantic", "near", "cluster", "curated", "best")
COLOURS = ("red", "green", "blue", "yellow", "grey", "brown", "white")
THINGS = ("clouds", "fields", "stains", "lights", "waves")


@dataclass(frozen=True)
class Outcome:
    """What a job leaves, as far as engines have to agree on it."""

    kept: tuple[str, ...]  # ids, in the order of the output
    exact: dict[str, list[Any]]  # columns of these records without tolerance
    close: dict[str, npt.NDArray[np.float64]]  # columns within the scorer's tolerance, also of NumPy files
    ledger: tuple[tuple[str, str, str, str], ...]  # id, step, verdict, reason
    totals: Mapping[str, Any]


def picture(number: int) -> Image.Image:
    """Four by four patches of colours like those of no other number."""
    seeds = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(seeds).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def make_input(folder: Path) -> Path:
    """Pictures, and some of them once more with a lower quality, in four tars; a curated set; the model."""
    made = [(number, 92) for number in range(PICTURES)] + [(number, 80) for number in range(COPIES)]
    order = np.random.default_rng(0).permutation(len(made))
    (folder / "tars").mkdir()
    for tar_number in range(4):
        with tarfile.open(folder / "tars" / f"{tar_number:05d}.tar", "w") as tar:
            for place in order[tar_number::4].tolist():
                number, quality = made[place]
                content = io.BytesIO()
                picture(number).save(content, "JPEG", quality=quality)
                told = f"{COLOURS[number % 7]} {THINGS[number % 5]} number {number}"
                for suffix, value in (("jpg", content.getvalue()), ("txt", told.encode())):
                    member = tarfile.TarInfo(f"{number:04d}-{quality}.{suffix}")
                    member.size = len(value)
                    tar.addfile(member, io.BytesIO(value))
    curated = np.random.default_rng(1).standard_normal((6, MODEL["embed_dim"])).astype(np.float32)
    np.save(folder / "curated.npy", curated)
    write_model(folder / "model")
    return folder


def write_model(folder: Path) -> None:
    """A model of random weights, whose embeddings of the pictures point into all directions."""
    import torch
    from thresher.scorers.clip.architecture import built
    from thresher.scorers.clip.model import write_clip

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = built(MODEL).eval()
        for name, weights in network.named_parameters():
            if weights.ndim > 1 and "embedding" not in name:
                torch.nn.init.normal_(weights, std=0.15)
        shown = np.stack([np.asarray(picture(n).resize((32, 32))) for n in range(9000, 9050)])
        pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        before: list[Any] = []
        network.visual.ln_post.register_forward_hook(lambda *told: before.append(told[2][:, 0].mean(0)))
        network.encode_image(pixels)
        network.visual.ln_post.bias -= before[0]
    write_clip(folder, MODEL, {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}, network.state_dict())


def job(folder: Path, out: str, work: str, setting: Setting, steps: Sequence[str] = STEPS) -> dict[str, Any]:
    """Scores, and of what else the job can do the `steps`: copies in clusters and among neighbours, clusters,
    what is near a curated set, the best."""
    score: dict[str, Any] = {
        "score": {"clip": {"model": "model", "outputs": ["similarity", "image"], "precision": "fp32"}},
        "as": "clip",
        "resources": {"cpus": 1, "actors": [1, 2]},
    }
    if setting.scores_on is not None:
        score["on"] = setting.scores_on
    near = {"of": "clip_image", "k": 8, "min_similarity": NEAR}
    curated = {"of": "clip_image", "around": "curated.npy", "neighbours": {"k": 15}, "action": "report"}
    described: dict[str, Any] = {
        "semantic": {"dedup": {"semantic": {"of": "clip_image", "threshold": SAME, "clusters": 3}}},
        "near": {"dedup": {"neighbours": near}},
        "cluster": {"cluster": {"of": "clip_image", "clusters": 5}, "as": "cluster"},
        "curated": {"retrieve": curated, "as": "curated"},
        "best": {"select": {"top": "30%", "by": "clip_similarity"}},
    }
    for name in ("semantic", "near", "best"):
        described[name]["name"] = name
    return {
        "name": "clip-everywhere",
        "modality": "image-text",
        "input": [{"path": str(folder / "tars" / "*.tar"), "format": "webdataset"}],
        "steps": [score, *(described[name] for name in steps)],
        "output": {
            "path": out,
            "format": "parquet",
            "shard": "30KB",
            "card": False,
            "embeddings": {"arrays": {"img": "clip_image"}},
        },
        "run": {**setting.run, "part": "100KB", "work": work, "directory": str(folder)},
    }


def run(described: dict[str, Any]) -> Outcome:
    """Runs a job to its end and reads what it leaves."""
    totals = thresher.run(thresher.load(described)).totals
    return outcome(described["output"]["path"], totals)


def outcome(out: str, totals: Mapping[str, Any]) -> Outcome:
    files, root = fsspec.core.url_to_fs(out)
    files.invalidate_cache()

    def table(pattern: str) -> pa.Table:
        found = [pq.read_table(io.BytesIO(files.cat_file(path))) for path in sorted(files.glob(pattern))]
        return pa.concat_tables(found)

    records, ledger = table(f"{root}/shard-*.parquet"), table(f"{root}/ledger/*.parquet")
    arrays = [
        np.load(io.BytesIO(files.cat_file(path)))["img"]
        for path in sorted(files.glob(f"{root}/metadata/*.npz"))
    ]
    close = {
        "clip_similarity": records["clip_similarity"].to_numpy().astype(np.float64),
        "img": np.concatenate(arrays).astype(np.float64),
    }
    exact = {
        name: records[name].to_pylist()
        for name in ("text", "cluster", "curated")
        if name in records.column_names
    }
    rows = (ledger[name].to_pylist() for name in ("id", "step", "verdict", "reason"))
    return Outcome(
        tuple(records["id"].to_pylist()), exact, close, tuple(sorted(zip(*rows, strict=True))), totals
    )
