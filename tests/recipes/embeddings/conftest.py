"""Drawn pairs, and models of a few thousand weights, for the recipes that choose by embeddings."""

from __future__ import annotations

import importlib
import io
import json
import random
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from PIL import Image
from thresher.jobs import recipe_book
from thresher.schemas.contracts import AssetError
from thresher.scorers.clip.packages import import_open_clip

Matrix = npt.NDArray[np.float64]
SIDE = 32
ADJECTIVES = ("old", "green", "small", "broken", "quiet", "bright", "empty")
THINGS = ("house", "garden", "bridge", "harbour", "kitchen", "forest", "market", "station")
WHERE = ("near the river", "behind the school", "on the hill", "under the trees", "at the end of the road")
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
ENCODER = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 0,
    "model_args": {"img_size": SIDE, "patch_size": 8, "depth": 1, "embed_dim": 192, "num_heads": 3},
    "pretrained_cfg": {
        "input_size": [3, SIDE, SIDE],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}


@dataclass(frozen=True)
class Pair:
    """A sample of the pool: a PNG of 32 by 32 pixels, and what is said of it."""

    uid: str
    caption: str
    picture: bytes

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        return np.array(Image.open(io.BytesIO(self.picture)))


@dataclass(frozen=True)
class Outcome:
    """What a run left, by the ids of records."""

    kept: dict[str, dict[str, Any]]
    lost: dict[str, tuple[str, str, str | None]]  # step, reason, value
    folder: Path

    def of_step(self, step: str) -> set[str]:
        return {name for name, (where, *_) in self.lost.items() if where == step}


def picture(family: int, number: int, noise: float) -> bytes:
    """A mosaic: those of a family have the same stones, each with some noise of its own. None is black."""
    stones = np.random.default_rng(family).integers(60, 256, (8, 8, 3))
    pixels = stones.repeat(SIDE // 8, axis=0).repeat(SIDE // 8, axis=1)
    pixels = pixels + np.random.default_rng([family, number]).normal(0, noise, pixels.shape)
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 50, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def caption(number: int) -> str:
    """An English caption, no two of 280 the same."""
    adjective, thing = ADJECTIVES[number % 7], THINGS[number % 8]
    return f"This is an {adjective} {thing} {WHERE[number % 5]}"


def drawn(
    counts: Sequence[int], first: int = 0, noise: float = 12.0, families: Sequence[int] | None = None
) -> list[Pair]:
    """So many pairs of each family."""
    kinds = [
        kind for kind, count in zip(families or range(len(counts)), counts, strict=True) for _ in range(count)
    ]
    return [
        Pair(
            f"{np.random.default_rng([first, n]).bytes(16).hex()}",
            caption(n),
            picture(kind, first + n, noise),
        )
        for n, kind in enumerate(kinds)
    ]


def write_tar(path: Path, pairs: Iterable[Pair]) -> None:
    """The pairs as DataComp's downloads are: image, caption, and the uid in JSON."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, pair in enumerate(pairs):
            told = json.dumps({"uid": pair.uid}).encode()
            for suffix, content in (("png", pair.picture), ("txt", pair.caption.encode()), ("json", told)):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="session")
def open_clip() -> Any:
    """The package; what needs it is skipped where it cannot be imported."""
    pytest.importorskip("torch")
    try:
        return import_open_clip()
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def clip_model(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights, moved so that embeddings of mosaics point into all directions."""
    import torch
    from thresher.scorers.clip.architecture import built
    from thresher.scorers.clip.model import write_clip

    folder = tmp_path_factory.mktemp("models") / "clip"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = built(CLIP).eval()
        for name, weights in network.named_parameters():
            if weights.ndim > 1 and "embedding" not in name:
                torch.nn.init.normal_(weights, std=0.15)
    write_clip(folder, CLIP, {"size": SIDE}, network.state_dict())
    means: list[Any] = []
    network.visual.ln_post.register_forward_hook(lambda *told: means.append(told[2][:, 0].mean(0)))
    with torch.no_grad():
        network.encode_image(_shown(open_clip, folder, _examples()))
        network.visual.ln_post.bias -= means[0]
    write_clip(folder, CLIP, {"size": SIDE}, network.state_dict())
    return folder


@pytest.fixture(scope="session")
def encoder_models(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes an encoder of timm's under a name, with random weights moved in the same way."""
    import torch
    from safetensors.torch import save_file

    timm: Any = importlib.import_module("timm")

    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp("encoders") / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(ENCODER))
        with torch.random.fork_rng():
            torch.manual_seed(len(name))
            network = timm.create_model(f"local-dir:{folder}", pretrained=False).eval()
            for weights in network.parameters():
                if weights.ndim > 1:
                    torch.nn.init.normal_(weights, std=0.1)
        with torch.no_grad():
            network.norm.bias -= network(_normalised(_examples())).mean(0)
        save_file(network.state_dict(), folder / "model.safetensors")
        return folder

    return write


def _examples() -> list[Pair]:
    return drawn([2] * 30, first=7000)


def _normalised(pairs: Sequence[Pair]) -> Any:
    import torch

    pixels = np.stack([pair.pixels for pair in pairs]).astype(np.float32) / 255
    return torch.from_numpy((pixels - 0.5) / 0.5).permute(0, 3, 1, 2)


def _opened(data: bytes) -> Image.Image:
    """The picture on white."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _shown(open_clip: Any, folder: Path, pairs: Sequence[Pair]) -> Any:
    import torch

    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return torch.stack([transform(_opened(pair.picture)) for pair in pairs])


@dataclass(frozen=True)
class ByHand:
    """What open_clip and timm themselves make of pairs: embeddings of length one."""

    open_clip: Any

    def images(self, folder: Path, pairs: Sequence[Pair]) -> Matrix:
        import torch

        network, _, _ = self.open_clip.create_model_and_transforms(f"local-dir:{folder}")
        with torch.no_grad():
            return _of_length_one(network.eval().encode_image(_shown(self.open_clip, folder, pairs)))

    def texts(self, folder: Path, texts: Sequence[str]) -> Matrix:
        import torch

        network, _, _ = self.open_clip.create_model_and_transforms(f"local-dir:{folder}")
        tokens = self.open_clip.get_tokenizer(f"local-dir:{folder}")(list(texts))
        with torch.no_grad():
            return _of_length_one(network.eval().encode_text(tokens))

    def cosines(self, folder: Path, pairs: Sequence[Pair]) -> npt.NDArray[np.float64]:
        texts = self.texts(folder, [pair.caption for pair in pairs])
        return np.asarray((self.images(folder, pairs) * texts).sum(axis=1))

    def encoded(self, folder: Path, pairs: Sequence[Pair]) -> Matrix:
        import torch

        timm: Any = importlib.import_module("timm")
        network = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
        with torch.no_grad():
            return _of_length_one(network(_normalised(pairs)))


def _of_length_one(rows: Any) -> Matrix:
    found = rows.numpy().astype(np.float64)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@pytest.fixture(scope="session")
def by_hand(open_clip: Any) -> ByHand:
    return ByHand(open_clip)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a recipe on pairs in tars, with some of its text exchanged and files laid beside it.

    Where it names one of OpenAI's models, it gets the folder `clip`; numbers are those of fp32.
    """

    def run_recipe(
        name: str,
        pairs: Sequence[Pair],
        *exchanged: tuple[str, str],
        models: Iterable[Path] = (),
        overrides: Sequence[str] = ("output.format=parquet",),
    ) -> Outcome:
        text = recipe_book.read(name).text
        text = re.sub(
            r"ViT-[LB]-\d\d-quickgelu(,\s+|\s+)checkpoint: clip-[lb]\d\d\.safetensors",
            r"clip\1precision: fp32",
            text,
        )
        for old, new in exchanged:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
        for path in models:
            if path.is_dir():
                shutil.copytree(path, tmp_path / path.name, dirs_exist_ok=True)
        pool = tmp_path / re.search(r"path: (\w+)/\*\.tar", text)[1]  # type: ignore[index]
        for number in range(0 if pool.exists() else 2):
            write_tar(pool / f"{number:05d}.tar", pairs[number::2])
        settings = (*overrides, "run.workers=1", f"run.work={tmp_path / 'work'}")
        job = thresher.load(tmp_path / "job.yaml", settings, allow_code=True)
        with inline_tasks():
            result = thresher.run(job, allow_code=True)
        return read(Path(result.output), {pair.uid for pair in pairs})

    return run_recipe


def read(out: Path, names: set[str]) -> Outcome:
    """The shards and the ledger. AssertionError where a record is missing or twice."""
    shards = [out / shard["path"] for shard in json.loads((out / "manifest.json").read_text())["shards"]]
    rows = [row for shard in shards if shard.suffix == ".parquet" for row in pq.read_table(shard).to_pylist()]
    kept = {row["id"]: row for row in rows}
    ledger = pq.read_table(out / "ledger").to_pylist()
    lost = {row["id"]: (row["step"], row["reason"], row["value"]) for row in ledger}
    assert len(kept) == len(rows)
    assert not kept.keys() & lost.keys()
    if rows:  # a subset has none
        assert kept.keys() | lost.keys() == names
    return Outcome(kept, lost, out)


@pytest.fixture(scope="session")
def pool() -> list[Pair]:
    """160 pairs of eight families."""
    return drawn([20] * 8)


@pytest.fixture(scope="session")
def clip_art(shared_data: Path) -> list[Pair]:
    """120 real pictures with their captions."""
    folder = shared_data / "images" / "openclipart"
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    rows = [row for row in rows if (folder / row["file"]).stat().st_size < 40_000]
    chosen = random.Random(5).sample(rows, 120)
    return [
        Pair(f"{number:032x}", row["caption"], (folder / row["file"]).read_bytes())
        for number, row in enumerate(chosen)
    ]


@pytest.fixture(scope="session")
def draw() -> Callable[..., list[Pair]]:
    """Draws pairs: how many of each family, and the first number, which tells them from others."""
    return drawn


@pytest.fixture(scope="session")
def clip_config() -> dict[str, Any]:
    return CLIP


@pytest.fixture(scope="session", name="write_tar")
def _write_tar() -> Callable[..., None]:
    return write_tar
