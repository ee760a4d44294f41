"""Images a second of `score: clip`, beside its model alone, its decoder alone, and open_clip's usual script.

    python benchmarks/clip.py [--models ViT-B-32 ViT-L-14] [--device cuda] [--quick]

Models have random weights, pictures are JPEGs of 256 pixels drawn from a seed, in tars, each with a caption
of its own. Four contenders take turns, each in processes of its own with all cores: `model`, the towers over
batches that lie ready on the device, with the batch that is best; `decoder`, from tars to pixels of the
model's size, in threads; `job`, a whole `thresher run` from the tars to Parquet and .npz, one process at the
model; `open_clip`, a loop over torch's DataLoader with open_clip's own transform, tokenizer and model, under
autocast where that is faster.

The rate of the job is that of the images that a larger one has more than a smaller one, so that what starting
costs is told apart; `scoring` is its stage with the model alone, from the commit of its first part to that of
its last; open_clip's counts from its second batch. Medians of wall time are compared, and of CPU seconds
beside them: on a machine with other work the latter move less, but do not know of waiting.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pictures
import process_tree
from figures import NOT_RUN, Figure, add_option, save

from jobs import COMMAND, alternate

SIDE = 256
CORES = len(os.sched_getaffinity(0))
LEAST_SHARE = 0.9  # of the smaller of the rates of model and decoder
DECODED = 2048  # images that the decoder takes at least
BATCHES = {"cpu": (16, 32, 64), "cuda": (128, 256, 512)}


@dataclass(frozen=True)
class Taken:
    """What some images took."""

    images: int
    wall: float  # seconds
    cpu: float  # seconds of all processes
    batch: int = 0  # images at a time; 0: does not apply
    scored: float = (
        0.0  # of a job: images a second of the stage that scores, between its first part and its last
    )


@dataclass(frozen=True)
class Work:
    """What all contenders do."""

    folder: Path
    model: str
    device: str
    precision: str
    outputs: tuple[str, ...]
    count: int

    @property
    def weights(self) -> Path:
        return self.folder / self.model

    @property
    def reads(self) -> bool:
        """Whether captions matter."""
        return self.outputs != ("image",)


def write_model(folder: Path, name: str) -> None:
    """An architecture of open_clip's with random weights, as a folder."""
    import torch
    from thresher.scorers.clip.architecture import built
    from thresher.scorers.clip.model import write_clip
    from thresher.scorers.clip.packages import import_open_clip

    torch.manual_seed(0)
    model_cfg = import_open_clip().get_model_config(name)
    size = model_cfg["vision_cfg"]["image_size"]
    write_clip(folder, model_cfg, {"size": size}, built(model_cfg).state_dict())


def shards(work: Work) -> list[Path]:
    return sorted((work.folder / "tars").glob("*.tar"))


def members(shard: Path) -> Iterator[tuple[bytes, str]]:
    """Image and caption of each sample, as `tarfile` reads them."""
    found: dict[str, bytes] = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            body = tar.extractfile(member)
            assert body is not None
            found[member.name.rpartition(".")[2]] = body.read()
            if len(found) == 3:
                yield found["jpg"], found["txt"].decode()
                found.clear()


def model_alone(work: Work) -> Taken:
    """Both towers, or that of images, over one batch of noise again and again."""
    import numpy as np
    import torch
    from thresher.scorers.assets import LocalAssets
    from thresher.scorers.clip.model import load_clip

    torch.set_num_threads(CORES)
    clip = load_clip(str(work.weights), None, LocalAssets([]), device=work.device, precision=work.precision)
    most = max(BATCHES[clip.device.type])
    pixels = np.random.default_rng(0).integers(0, 256, (most, *clip.image_size, 3), np.uint8)
    images = clip._normaliser(pixels)
    tokens = clip.tokenize([pictures.caption(number) for number in range(most)])
    captions = torch.from_numpy(tokens).to(clip.device).long()

    def encode(size: int) -> None:
        with torch.inference_mode():
            found = [clip._network.encode_image(images[:size])]
            if work.reads:
                found.append(clip._network.encode_text(captions[:size]))
            for matrix in found:
                matrix.float().cpu()  # waits for the device

    taken = []
    for size in BATCHES[clip.device.type]:
        encode(size)
        rounds = -(-work.count // size)
        began, spent = time.perf_counter(), time.process_time()
        for _ in range(rounds):
            encode(size)
        taken.append(Taken(rounds * size, time.perf_counter() - began, time.process_time() - spent, size))
    return min(taken, key=lambda one: one.wall / one.images)


def decoder_alone(work: Work) -> Taken:
    """Every image of the tars, several times over, as the pixels that the model is shown."""
    from thresher.scorers.assets import LocalAssets
    from thresher.scorers.clip.architecture import architecture_of
    from thresher.scorers.clip.pictures import shown
    from thresher.scorers.clip.preprocessing import preprocessing_of

    described = architecture_of(str(work.weights), None, LocalAssets([]))
    side = int(described.model_cfg["vision_cfg"]["image_size"])
    wanted = preprocessing_of(described.preprocess_cfg, (side, side))
    few = [image for image, _ in members(shards(work)[0])][:CORES]
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda image: shown(image, wanted), few))
        done = 0
        began, spent = time.perf_counter(), time.process_time()
        while done < DECODED:
            for shard in shards(work):
                images = [image for image, _ in members(shard)]
                done += sum(1 for _ in pool.map(lambda image: shown(image, wanted).shape, images))
        return Taken(done, time.perf_counter() - began, time.process_time() - spent)


def usual_script(work: Work) -> Taken:
    """open_clip's model behind torch's DataLoader, its worker processes as many as cores."""
    from thresher.scorers.clip.packages import import_open_clip

    open_clip = import_open_clip()
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{work.weights}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{work.weights}")
    device = torch.device(work.device)
    model = model.eval().to(device)

    class Pairs(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            worker = get_worker_info()
            for shard in shards(work)[worker.id :: worker.num_workers]:
                for image, text in members(shard):
                    yield transform(Image.open(io.BytesIO(image))), tokenizer(text)[0]

    size = BATCHES[device.type][1]
    loader = DataLoader(Pairs(), batch_size=size, num_workers=CORES, pin_memory=device.type == "cuda")
    half = torch.bfloat16 if work.precision == "bf16" else torch.float16

    def encode(images: torch.Tensor, texts: torch.Tensor, narrow: bool) -> None:
        with torch.inference_mode(), torch.autocast(device.type, half, enabled=narrow):
            found = model.encode_image(images.to(device, non_blocking=True), normalize=True)
            if work.reads:
                captions = model.encode_text(texts.to(device, non_blocking=True), normalize=True)
                (found * captions).sum(1).float().cpu()
            found.float().cpu()

    def seconds(batch: Any, narrow: bool) -> float:
        encode(*batch, narrow)
        began = time.perf_counter()
        encode(*batch, narrow)
        return time.perf_counter() - began

    batches = iter(loader)
    first = next(batches)
    # On some CPUs autocast is slower than what it is to speed up.
    narrow = work.precision != "fp32" and seconds(first, True) < seconds(first, False)
    began, spent, done = time.perf_counter(), process_tree.cpu_seconds(os.getpid()), 0
    for batch in batches:
        encode(*batch, narrow)
        done += len(batch[0])
    wall = time.perf_counter() - began
    return Taken(done, wall, process_tree.cpu_seconds(os.getpid()) - spent, size)


ALONE: dict[str, Callable[[Work], Taken]] = {
    "model": model_alone,
    "decoder": decoder_alone,
    "open_clip": usual_script,
}


def in_its_own_process(kind: str, work: Work) -> Taken:
    told = json.dumps({**asdict(work), "folder": str(work.folder)})
    usage = process_tree.measure([sys.executable, __file__, "--one", kind, told])
    return Taken(**json.loads(usage.output.splitlines()[-1]))


def job(work: Work, count: int) -> Taken:
    """The command, from tars to Parquet and .npz, over the first tars, which hold `count` images."""
    with tempfile.TemporaryDirectory(dir=work.folder) as name:
        folder = Path(name)
        left, taken = count, []
        for shard in shards(work):
            if left > 0:
                taken.append(str(shard))
                left -= sum(1 for _ in members(shard))
        clip: dict[str, Any] = {
            "model": str(work.weights),
            "outputs": list(work.outputs),
            "precision": work.precision,
            "device": work.device,
        }
        columns = [f"clip_{output}" for output in work.outputs] if len(work.outputs) > 1 else ["clip"]
        embeddings = {
            output: column
            for output, column in zip(work.outputs, columns, strict=True)
            if output in ("image", "text")
        }
        described = {
            "name": "benchmark",
            "modality": "image-text",
            "input": [{"path": path, "format": "webdataset"} for path in taken],
            "steps": [{"score": {"clip": clip}, "as": "clip", "resources": {"actors": [1, 1]}}],
            "output": {
                "path": str(folder / "out"),
                "format": "parquet",
                "card": False,
                **({"embeddings": {"arrays": embeddings}} if embeddings else {}),
            },
            "run": {"workers": CORES, "work": str(folder / "work"), "part": shards(work)[0].stat().st_size},
        }
        path = folder / "job.yaml"
        path.write_text(json.dumps(described), encoding="utf-8")
        usage = process_tree.measure([str(COMMAND), "run", str(path), "--quiet"])
        manifest = json.loads((folder / "out" / "manifest.json").read_text(encoding="utf-8"))
        kept = manifest["totals"]["kept"]
        if kept != count - left:
            raise RuntimeError(f"{kept} of {count - left} images have scores")
        scored = scoring_rate(folder / "work")
    return Taken(kept, usage.wall, usage.cpu, scored=scored)


def scoring_rate(work: Path) -> float:
    """Images a second between the first and the last part that has been scored; 0 where there is one."""
    entries = (work / "stages").glob("*-score-clip-*/[0-9]*[0-9].json")
    first, *others = sorted(entries, key=lambda path: path.stat().st_mtime_ns)
    if not others:
        return 0.0
    images = sum(json.loads(path.read_text(encoding="utf-8"))["rows"][0] for path in others)
    return images / (others[-1].stat().st_mtime - first.stat().st_mtime)


def compare(work: Work, few: int, runs: int) -> list[Figure]:
    """All contenders, in alternating runs."""
    contenders: dict[str, Callable[[], Taken]] = {
        kind: partial(in_its_own_process, kind, work) for kind in ALONE
    }
    contenders["few"] = partial(job, work, few)
    contenders["many"] = partial(job, work, few + work.count)
    found = alternate(contenders, runs)
    wall = {kind: _rate([one.images / one.wall for one in found[kind]]) for kind in ALONE}
    cpu = {kind: _rate([one.cpu / one.images for one in found[kind]]) for kind in ALONE}
    more = [
        Taken(large.images - small.images, large.wall - small.wall, large.cpu - small.cpu)
        for small, large in zip(found["few"], found["many"], strict=True)
    ]
    wall["job"] = 1 / _rate([one.wall / one.images for one in more])
    cpu["job"] = _rate([one.cpu / one.images for one in more])
    wall["scoring"] = _rate([one.scored for one in found["many"]])
    start = _rate([one.wall for one in found["few"]]) - found["few"][0].images / wall["job"]
    told = f"{work.model}, {work.precision} on {work.device}"
    print(f"{told}: {', '.join(work.outputs)} of {work.count} images, {CORES} cores")
    for kind, rate in wall.items():
        batch = found[kind][0].batch if kind in found else 0
        spent = f"{1e3 * cpu[kind]:9.2f} CPU ms an image" if kind in cpu else ""
        of = f", {batch} at a time" if batch else ""
        print(f"    {kind:10} {rate:9.1f} images/s of wall time {spent}{of}")
    print(f"    what starting costs the job: {start:.1f} s")
    binds = min(("model", "decoder"), key=wall.__getitem__)
    print(f"    the {binds} binds")
    needed = cpu["model"] + cpu["decoder"]
    return [
        Figure(f"{told}: job", wall["job"], "images/s"),
        Figure(f"{told}: job / {binds} alone, which binds", wall["job"] / wall[binds], "x", LEAST_SHARE),
        Figure(f"{told}: stage with the model / {binds} alone", wall["scoring"] / wall[binds], "x"),
        Figure(f"{told}: CPU of model and decoder / that of the job", needed / cpu["job"], "x"),
        Figure(f"{told}: job / open_clip with a DataLoader", wall["job"] / wall["open_clip"], "x"),
        Figure(f"{told}: what starting costs", start, "s"),
    ]


def _rate(values: Sequence[float]) -> float:
    return statistics.median(values)


def fp32_beside(work: Work) -> Figure:
    """How much the narrower numbers give: once, over fewer images."""
    fewer = Work(work.folder, work.model, work.device, "fp32", work.outputs, max(32, work.count // 4))
    plain = in_its_own_process("model", fewer)
    fast = in_its_own_process("model", Work(**{**vars(fewer), "precision": work.precision}))
    ratio = (fast.images / fast.wall) / (plain.images / plain.wall)
    print(f"    model in fp32: {plain.images / plain.wall:.1f} images/s, {plain.batch} at a time")
    return Figure(f"{work.model} on {work.device}: {work.precision} / fp32", ratio, "x")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", help="of open_clip; ViT-B-32, on a GPU ViT-L-14 too")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--precision", default="auto", help="fp32, bf16, fp16 or auto")
    parser.add_argument("--outputs", nargs="+", default=["similarity", "image"])
    parser.add_argument("--images", type=int, help="how many more the larger job has; 256, on a GPU 40,000")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    parser.add_argument("--quick", action="store_true", help="the tower of images over 64 images, once")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    add_option(parser)
    options = parser.parse_args()
    if options.one:
        kind, told = options.one
        values = json.loads(told)
        values |= {"folder": Path(values["folder"]), "outputs": tuple(values["outputs"])}
        print(json.dumps(asdict(ALONE[kind](Work(**values)))))
        return
    from thresher.schemas.contracts import AssetError
    from thresher.scorers.clip.packages import import_open_clip
    from thresher.scorers.torch_device import device_of, precision_on

    try:
        import_open_clip()
    except AssetError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_RUN)
    device = device_of(options.device)
    on_gpu = device.type == "cuda"
    precision = precision_on(device, options.precision)
    count = options.images or (40_000 if on_gpu else 256)
    if options.quick:
        options.outputs, options.runs, count = ["image"], 1, count // 4
    few = max(32, count // 8)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = pictures.draw(folder / "drawn", SIDE, 50)
        pictures.write_tars(pictures.repeated(drawn), folder / "tars", few + count, few)
        for model in options.models or (["ViT-B-32", "ViT-L-14"] if on_gpu else ["ViT-B-32"]):
            write_model(folder / model, model)
            work = Work(folder, model, device.type, precision, tuple(options.outputs), count)
            found += compare(work, few, options.runs)
            if precision != "fp32":
                found.append(fp32_beside(work))
    save(found, options.figures)


if __name__ == "__main__":
    main()
