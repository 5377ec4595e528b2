"""Timelines as an interactive web page: one file that opens without a network or a server.

The four resources are lanes. Switches (for example, for the upload mode and the planner) select the
timeline that is drawn, and a second one next to it. Plotly draws, zooms and shows what is under the
pointer; `page/` has the rest of the page. A page has 2 MB, almost all of it Plotly's compressed
JavaScript, plus about 40 bytes per interval of every timeline.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np

from mjoa_gym.dnn import DNN
from mjoa_gym.model.simulator import Timeline
from mjoa_gym.rendering.style import LANES, STYLES, overlap
from mjoa_gym.validation import zero_or_more

Choice = tuple[str, ...]  # the chosen option of every switch


def timeline_html(
    dnn: DNN,
    timelines: Mapping[Choice, Timeline],
    uplink_bps: float,
    switches: Sequence[str] = ("Uploading", "Planner"),
    title: str = "One inference",
    subtitle: str = "",
    compare_with: Choice | None = None,
    below: str = "",
) -> str:
    """Return a page with one inference's timelines, and switches between them.

    Args:
        dnn: The network of all timelines.
        timelines: The timelines by the options of all switches; the first is shown first. Not every
            combination needs a timeline.
        uplink_bps: Bits per second of the uplink, for the bytes of parts of parameters.
        switches: The switches' names.
        title: Title of the page.
        subtitle: A line under the title.
        compare_with: The timeline that is drawn below the first one at first; default none.
        below: HTML to put below the chart.

    Raises:
        ImportError: If plotly is not installed, with how to install it.
        ValueError: If there are no timelines, a timeline does not have one option for each switch,
            `compare_with` is not one of the timelines, or the rate is invalid.
    """
    data = page_data(dnn, timelines, uplink_bps, switches, compare_with)
    parts = {
        "TITLE": html.escape(title),
        "SUBTITLE": html.escape(subtitle),
        "STYLE": asset("page.css"),
        "BELOW": below,
        "DATA": script_data(data),
        "PLOTLY": _plotly_base64(),
        "SCRIPT": asset("page.js"),
    }
    return filled(asset("page.html"), parts)


def filled(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with its `{{NAME}}`s replaced by the parts of these names."""
    # one pass: what is put in is not searched for names of other parts
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], template)


def script_data(data: Any) -> str:
    """Return data as JSON for the inside of a script; no text in it can end the script."""
    written = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c")


def page_data(
    dnn: DNN,
    timelines: Mapping[Choice, Timeline],
    uplink_bps: float,
    switches: Sequence[str],
    compare_with: Choice | None = None,
) -> dict[str, Any]:
    """Return the data of the page's script, for JSON; arguments and errors as in `timeline_html`.

    Equal timelines are stored once. Infinite times become None.
    """
    if not timelines:
        raise ValueError("timelines is empty: a page shows at least one")
    for choice in timelines:
        if len(choice) != len(switches):
            raise ValueError(
                f"timelines has {choice!r}: must have one option for each of {switches!r}"
            )
    if compare_with is not None and compare_with not in timelines:
        raise ValueError(f"compare_with={compare_with!r}: allowed are {list(timelines)}")
    rate = zero_or_more("uplink_bps", uplink_bps)
    kept = {choice: json.dumps(_timeline_data(timeline)) for choice, timeline in timelines.items()}
    stored = list(dict.fromkeys(kept.values()))
    return {
        "switches": [
            {"name": name, "options": list(dict.fromkeys(choice[k] for choice in timelines))}
            for k, name in enumerate(switches)
        ],
        "views": [{"choice": c, "timeline": stored.index(text)} for c, text in kept.items()],
        "compare_with": compare_with,
        "timelines": [json.loads(text) for text in stored],
        "dnn": {
            "name": dnn.name,
            "layer_names": dnn.layer_names,
            "kinds": dnn.kinds,
            "parameter_bytes": dnn.parameter_bytes.tolist(),
            "output_bytes": dnn.output_bytes.tolist(),
            "input_bytes": dnn.input_bytes,
        },
        "uplink_bps": _finite(rate),
        "lanes": [{"resource": resource, "label": label} for resource, label in LANES.items()],
        "kinds": [
            {"resource": resource, "what": what, **style._asdict()}
            for (resource, what), style in STYLES.items()
        ],
    }


def _timeline_data(timeline: Timeline) -> dict[str, Any]:
    """Return a timeline's data; an interval has its kind's index, layer, start and end."""
    kinds = list(STYLES)
    return {
        "latency": _finite(timeline.latency),
        "overlap": overlap(timeline),
        "intervals": [
            [kinds.index((i.resource, i.what)), i.layer, i.start, _finite(i.end)]
            for i in timeline.intervals
        ],
    }


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def asset(name: str, package: str = "mjoa_gym.rendering") -> str:
    """The text of a part of a page."""
    return (resources.files(package) / "page" / name).read_text("utf-8")


@lru_cache(maxsize=1)
def _plotly_base64() -> str:
    """Return Plotly's JavaScript, compressed to a third, which the page unpacks."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError(
            "interactive timelines need plotly: pip install 'mjoa-gym[evaluation]'"
        ) from error
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()
