"""LAION's rules before CLIP (Schuhmann et al. 2021, arXiv:2111.02114; 2022, arXiv:2210.08402)."""

from __future__ import annotations

from typing import Final

from ...schemas.rules import Rule, RuleSet

_PAPER: Final = "Schuhmann et al. 2021, arXiv:2111.02114, section 2.1.1"
_CODE: Final = "github.com/rvencu/crawlingathome-gpu-hcloud, dbdl.py, process_img_content"

LAION: Final = RuleSet(
    "laion",
    source="Schuhmann et al. 2021, arXiv:2111.02114, section 2.1.1, and the code that made LAION-5B",
    rules=[
        Rule("too_few_chars", "char_count >= min_chars", source=_PAPER, min_chars=5),
        Rule(
            "too_few_bytes",
            "image_bytes >= min_bytes",
            source=f"{_PAPER}, says 5 KB; {_CODE}, has 5,000 bytes",
            min_bytes=5000,
        ),
        Rule("other_format", "matches(image_format, formats)", source=_CODE, formats="^(jpeg|png|webp)$"),
        Rule(
            "too_many_pixels",
            "pixels <= max_pixels",
            source=f"{_CODE}; about where Pillow begins to warn of decompression bombs",
            max_pixels=89_478_484,
        ),
    ],
)
