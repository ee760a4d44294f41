"""Captions that say nothing of their image, told by patterns; and Chinese characters, counted."""

from __future__ import annotations

import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ..signal_spec import Requests

# Formats that pictures on the web come in, editors' own among them.
_EXTENSIONS: Final = (
    "jpe?g|jpe|jfif|pjpeg|png|apng|gif|webp|bmp|tiff?|svgz?|avif|hei[cf]|ico|jp2|j2k|jxl|psd|eps|raw|cr2|"
    "nef|dng"
)
# What cameras, telephones and programs put before the number of a picture. The list is ours.
_MAKERS: Final = (
    "fullsizerender|whatsapp image|screen ?shot|thumbnail|snapshot|untitled|download|unnamed|picture|capture|"
    "banner|header|images|image|photo|slide|thumb|cimg|crw|dji|dscf|dscn|dsc0|dsc|file|foto|bild|gopr|hpim|"
    "icon|imag|imgp|img|kif|logo|mvi|pano|pict|pic|pxl|sam|scan|sdc|wp"
)
_FILE_NAMES: Final = (
    # With the extension of a picture, and nothing behind it; a path or an address may be before it.
    rf"[^\r\n]{{0,255}}[^\s.]\.(?:{_EXTENSIONS})",
    # A maker's prefix and a number: IMG_2041, _DSC0012-1, image 12, photo (3).
    rf"_?(?:{_MAKERS})[-_ (.]*[0-9](?:[-_0-9 ().x]| at )*",
    "p[0-9a-c][0-9]{6}",  # Panasonic and Olympus: month, day, number
    # Numbers with what joins them, hashes, UUIDs: 20210101_123456, 1920x1080.
    "[0-9]+(?:[-_.x×][0-9]+)*",
    "[0-9a-f]{16,128}",
    "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
)

# Captions that are nothing else.
_WHOLE: Final = (
    # Sharma et al. 2018 (Conceptual Captions), section 3: cropped from captions there.
    "click to enlarge picture|stock photo",
    # Jia et al. 2021 (ALIGN), section 3: alternative texts that stand at many images.
    "alt img",
    # Gu et al. 2022 (Wukong): texts that stand at many images; not checked against the paper.
    "查看源网页|展开全文|摄影部落",
    # The rest is ours: what programs for web pages put in place of a description.
    "image|images|img|photo|photos|picture|pictures|pic|alt|alt text|image alt text|caption|placeholder",
    "thumb|thumbnail|default|background|banner|header|logo|site logo|icon|avatar|user avatar|spacer|blank",
    "image description|image title|image name|placeholder image|default image|featured image|post image",
    "article image|main image|product image|product photo|cover image|hero image|background image",
    "pixel|header image|profile picture|profile image|profile pic|tracking pixel|advertisement",
    "no image|no photo|no picture|no image available|no photo available|no picture available",
    "image not available|image not found|image unavailable|image coming soon|photo coming soon|coming soon",
    "loading|loading image|untitled|unnamed|null|undefined|none|n/a|missing|read more|learn more",
    "click to enlarge|click to enlarge image|click image to enlarge|click here to enlarge|click to zoom",
    "click for larger image|click to view larger image|click to view full size|view larger image",
    "view full size|view full size image|enlarge image|enlarge|zoom|show image|view image|open image",
    "图片|点击查看大图|查看大图|imagen|foto|bild|изображение|фото|画像|사진",
)
_BEGINS: Final = (
    # Sharma et al. 2018, section 3: captions that begin or end so are dropped there.
    "embedded image permalink|profile photo",
    # Jia et al. 2021, figure 2 (MediaWiki's text at each version of a file) and section 3.
    "thumbnail for version as of|image tid",
    # Ours.
    "image may contain|may be an image of|no photo description available|this image has an empty alt",
    "the image could not be|no alternative text description|no alt text provided",
)
_ENDS: Final = ("embedded image permalink|profile photo",)


def _any(phrases: tuple[str, ...]) -> str:
    """One of the phrases, their words joined by space, "_" or "-"."""
    written = [r"[\s_-]+".join(map(re.escape, phrase.split())) for phrase in "|".join(phrases).split("|")]
    return f"(?:{'|'.join(written)})"


_SPACE: Final = r"\s\x{a0}\x{200b}\x{feff}\x{3000}"
_MARKS: Final = rf"[{_SPACE}\"'“”‘’«»\[\](){{}}<>*_.,:;!?…|#~-]*"
_FILE_NAME: Final = rf"^[{_SPACE}]*(?:{'|'.join(_FILE_NAMES)})[{_SPACE}]*$"
_BOILERPLATE: Final = (
    rf"^{_MARKS}(?:{_any(_WHOLE)}{_MARKS}$|{_any(_BEGINS)}(?:$|[^\pL])|(?s:.*[^\pL])?{_any(_ENDS)}{_MARKS}$)"
)


def measure_captions(text: pa.Array, requests: Requests) -> dict[str, pa.Array]:
    """The signals of the family `caption` under the names that are asked for; null where the caption is."""
    found: dict[str, pa.Array] = {}
    for name, spec in requests:
        if spec.name == "han_char_count":
            found[name] = pc.count_substring_regex(text, r"\p{Han}").cast(spec.type)
        else:
            pattern = _FILE_NAME if spec.name == "caption_is_file_name" else _BOILERPLATE
            found[name] = pc.match_substring_regex(text, pattern, ignore_case=True)
    return found
