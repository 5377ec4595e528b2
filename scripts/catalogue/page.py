"""The documentation's table of the packaged networks, from their files."""

from __future__ import annotations

import json
from pathlib import Path

HEAD = """# Networks

`DNN.load(name)` loads one at layer granularity, `DNN.load(name, granularity="block")` as the
chain of blocks between its cut layers. `scripts/build_catalogue.py` traces the architectures with
torch and writes the files in `mjoa_gym/catalogue/` and this page. A layer fuses what follows a
heavy operator; how FLOPs and bytes are counted is in every file's `provenance`. Parameters and
tensors are float32. A weight that two layers share is charged to the one that computes most with
it.

| Name | Architecture | Input | Layers | Graph | GMAC | Parameters (M) | Upload (MB) |
|---|---|---|--:|---|--:|--:|--:|
"""


def networks_page(folder: Path) -> str:
    """The page for all files of a catalogue folder, as Markdown."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        layers, origin = content["layers"], content["provenance"]
        chain = all(layer["predecessors"] == [i - 1] for i, layer in enumerate(layers))
        megabytes = sum(layer["parameter_bytes"] for layer in layers) / 1e6
        rows.append(
            f"| `{content['name']}` | {content['title']} | {origin['input']} | {len(layers)} | "
            f"{'chain' if chain else 'DAG'} | {origin['macs'] / 1e9:.3f} | "
            f"{origin['parameters'] / 1e6:.2f} | {megabytes:.1f} |"
        )
    return HEAD + "\n".join(rows) + "\n"
