"""Licences as a dataset card states them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

UNKNOWN: Final = "unknown"
_OTHER: Final = "other"
# The identifiers of the Hugging Face hub (huggingface.co/docs/hub/repositories-licenses).
_HUB_NAMES: Final = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0
    etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0
    odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    llama2 gemma unknown other
"""
_HUB: Final = frozenset(_HUB_NAMES.split())


def front_matter(licences: Iterable[str | None]) -> dict[str, Any]:
    """The fields `license` and `license_name` for data of these licences, None where one is not known.

    One that the hub has no identifier for is `other`, with its name beside it.
    """
    named = list(dict.fromkeys(licence or UNKNOWN for licence in licences))
    identifiers = list(dict.fromkeys(_identifier(name) for name in named)) or [UNKNOWN]
    fields: dict[str, Any] = {"license": identifiers[0] if len(identifiers) == 1 else identifiers}
    others = [name for name in named if _identifier(name) == _OTHER and name != _OTHER]
    if others:
        fields["license_name"] = "-".join(_slug(name) for name in others)
    return fields


def _identifier(licence: str) -> str:
    name = licence.strip().lower().replace(" ", "-")
    return name if name in _HUB else _OTHER


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
