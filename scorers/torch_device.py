"""Where a torch model runs: the device, the precision that is fast there, and how many threads it may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, get_args

from ..schemas.contracts import AssetError

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: Final[tuple[str, ...]] = get_args(Precision)

# Images that a model is given at a time. On a CPU a ViT-B-32 takes for each of 8 to 64 two thirds (bf16) or
# three quarters (fp32) of the time that a single one takes; a GPU is kept busy by some hundreds.
_BATCHES: Final = {"cpu": 32}
_GPU_BATCH: Final = 256


def device_of(name: str = "auto") -> torch.device:
    """The device that torch calls `name`; auto is a GPU of CUDA or ROCm where there is one, else the CPU.

    Raises AssetError where this machine has no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        told = str(error).strip().partition("\n")[0]
        raise AssetError(f"torch has no device {name!r} here ({told}); write device: cpu or auto") from error
    return device


def precision_on(device: torch.device, precision: str = "auto") -> Precision:
    """The precision of a model's products; auto is bf16 where the device has instructions for it, else fp32.

    Raises ValueError for another word than auto, fp32, bf16, fp16, and AssetError for fp16 on a CPU.
    """
    if precision == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise AssetError("a CPU does not compute in fp16; write precision: bf16, fp32 or auto")
    for known in get_args(Precision):
        if precision == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")


def batch_on(device: torch.device) -> int:
    """How many images or captions a model is given at a time unless the job says otherwise."""
    return _BATCHES.get(device.type, _GPU_BATCH)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """torch computes in `number` threads, in this thread of Python; None leaves what the engine has set."""
    import torch

    before = torch.get_num_threads()
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _multiplies_bf16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # Names of torch's own that may change: without them it is fp32, which is slower and never wrong.
    asked = (
        getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )
    return any(bool(ask()) for ask in asked if ask is not None)
