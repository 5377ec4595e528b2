"""Pages with timelines for tests: small ones, and what is embedded in them."""

from __future__ import annotations

import json
import re
from typing import Any

from mjoa_gym import DNN, Timeline, simulate
from mjoa_gym.rendering.interactive import timeline_html

UPLINK_BPS = 8e6
HOSTILE = '</script><img src=x onerror="alert(1)">'
"""A layer's name that would end the page's script if it were not escaped."""
PLACEMENTS = {"cut": [0, 1, 1, 0], "all": [1, 1, 1, 1], "none": [0, 0, 0, 0]}
TOY = DNN(
    name="toy & co",
    flops=[1e6] * 4,
    parameter_bytes=[1e4, 1e6, 2e6, 0],
    output_bytes=[5e4, 4e4, 3e4, 4e3],
    predecessors=[[-1], [0], [0, 1], [2]],
    input_bytes=2e5,
    kinds=["conv", "conv", "linear", "elementwise"],
    layer_names=["first", HOSTILE, "third", "last"],
)


def toy_timelines() -> dict[tuple[str, str], Timeline]:
    """Both ways of uploading and three placements; "cut" prefetches the first layer."""
    seconds = {"ue_seconds": [0.2, 0.9, 0.8, 2e-5], "edge_seconds": [0.01, 0.02, 0.02, 1e-7]}
    rates = {"uplink_bps": UPLINK_BPS, "downlink_bps": 2e7}
    return {
        (upload, name): simulate(
            TOY, sides, **seconds, **rates, upload=upload, prefetch=[name == "cut", 0, 0, 0]
        )
        for upload in ("parallel", "serial")
        for name, sides in PLACEMENTS.items()
    }


def toy_page(**options: Any) -> str:
    """A page of `toy_timelines`."""
    return timeline_html(TOY, toy_timelines(), UPLINK_BPS, **options)


def embedded(page: str) -> dict[str, Any]:
    """The data of a page, as its script reads them."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)
