"""The packaged models against what was published about them, and against their generator."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.forked import run

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "mjoa_gym" / "dnn" / "catalogue"
KINDS = {"conv", "depthwise_conv", "linear", "matmul", "pool", "elementwise", "norm", "embedding"}
HEAVY = {"conv", "depthwise_conv", "linear", "matmul"}
CHAINS = {"alexnet", "vgg16", "nin", "mobilenet_v1", "tiny_yolov2"}

# name: (published GMAC, parameters, layers). torchvision publishes both numbers for its models; for
# the others the exact parameters follow from the architecture and round to the published figure.
# Layers are those the fusing rules must give: convolutions, linear layers, attentions, pools,
# concatenations, sums and products, counted in the architecture.
PUBLISHED = {
    "alexnet": (0.714, 61_100_840, 12),
    "vgg16": (15.47, 138_357_544, 22),
    "nin": (1.106, 7_595_176, 16),
    "mobilenet_v1": (0.569, 4_231_976, 29),
    # Darknet's weight files include the running statistics of 3,056 and 3,184 channels:
    # 15,867,885 and 8,858,734 floats, less two per channel. Its BFLOPs are 2 x GMAC.
    "tiny_yolov2": (3.49, 15_861_773, 15),
    "yolov3_tiny": (5.56 / 2, 8_852_366, 20),
    "resnet18": (1.814, 11_689_512, 31),
    "resnet50": (4.089, 25_557_032, 72),
    "googlenet": (1.498, 6_624_904, 81),
    # torchvision publishes 27,161,264 parameters, which include the auxiliary head's 3,326,696.
    "inception_v3": (5.713, 23_834_568, 124),
    "mobilenet_v2": (0.301, 3_504_872, 64),
    "squeezenet1_1": (0.349, 1_235_496, 38),
    "densenet121": (2.834, 7_978_856, 188),
    "efficientnet_b0": (0.386, 5_288_548, 124),
    "vit_b_16": (17.564, 86_567_656, 87),
    "bert_base": (11.17, 109_482_240, 86),
    "gpt2_small": (16.1, 124_439_808, 86),  # the tied head adds MACs, no parameters
}


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_exactly_the_known_models_are_packaged():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name):
    gmac, parameters, layers = PUBLISHED[name]
    entry = load(name)
    heavy_flops = sum(layer["flops"] for layer in entry["layers"] if layer["kind"] in HEAVY)
    assert heavy_flops / 2e9 == pytest.approx(gmac, rel=0.005)
    assert sum(layer["parameter_bytes"] for layer in entry["layers"]) == 4 * parameters
    assert len(entry["layers"]) == layers
    assert entry["provenance"]["macs"] * 2 == heavy_flops
    assert entry["provenance"]["parameters"] == parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_light_layers_stay_light(name):
    layers = load(name)["layers"]
    light_flops = sum(layer["flops"] for layer in layers if layer["kind"] not in HEAVY)
    assert light_flops < 0.03 * sum(layer["flops"] for layer in layers)


@pytest.mark.parametrize("name", PUBLISHED)
def test_follows_the_schema(name):
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    entry = json.loads(text)
    assert list(entry) == ["schema", "name", "title", "input_bytes", "provenance", "layers"]
    assert entry["schema"] == "mjoa-gym/dnn/1"
    assert entry["name"] == name
    assert entry["input_bytes"] > 0
    assert entry["provenance"].keys() == {
        "architecture",
        "torch",
        "torchvision",
        "input",
        "counted",
        "macs",
        "parameters",
        "fused_from_operators",
    }
    assert text.count('\n  {"name"') == len(entry["layers"])  # a line each
    names = [layer["name"] for layer in entry["layers"]]
    assert len(set(names)) == len(names)
    for index, layer in enumerate(entry["layers"]):
        assert list(layer) == [
            "name",
            "kind",
            "flops",
            "parameter_bytes",
            "output_bytes",
            "predecessors",
        ]
        assert layer["kind"] in KINDS
        assert isinstance(layer["flops"], int)
        assert layer["flops"] >= 0
        assert layer["parameter_bytes"] >= 0
        assert layer["output_bytes"] > 0
        predecessors = layer["predecessors"]
        assert predecessors
        assert predecessors == sorted(set(predecessors))
        assert predecessors[0] >= -1
        assert predecessors[-1] < index


@pytest.mark.parametrize("name", PUBLISHED)
def test_chains_are_chains_and_the_others_are_not(name):
    layers = load(name)["layers"]
    is_chain = all(layer["predecessors"] == [index - 1] for index, layer in enumerate(layers))
    assert is_chain == (name in CHAINS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_ends_in_its_outputs(name):
    layers = load(name)["layers"]
    read = {index for layer in layers for index in layer["predecessors"]}
    sinks = [layer["output_bytes"] for index, layer in enumerate(layers) if index not in read]
    expected = {
        "tiny_yolov2": [4 * 125 * 13 * 13],
        "yolov3_tiny": [4 * 255 * 13 * 13, 4 * 255 * 26 * 26],
        "bert_base": [4 * 768],
        "gpt2_small": [4 * 128 * 50257],
    }
    assert sinks == expected.get(name, [4 * 1000])
    assert -1 in read


def test_known_tensors():
    alexnet = {layer["name"]: layer for layer in load("alexnet")["layers"]}
    assert alexnet["features.0"]["output_bytes"] == 4 * 64 * 55 * 55
    assert alexnet["features.0"]["flops"] == 2 * (64 * 55 * 55) * (3 * 11 * 11)
    assert alexnet["classifier.1"]["parameter_bytes"] == 4 * (9216 * 4096 + 4096)
    assert alexnet["classifier.1"]["kind"] == "linear"
    vit = load("vit_b_16")
    assert vit["input_bytes"] == 4 * 3 * 224 * 224
    assert vit["layers"][-2]["output_bytes"] == 4 * 768  # the head reads the class token alone
    bert = load("bert_base")
    assert bert["input_bytes"] == 8 * 128
    assert bert["layers"][0]["kind"] == "embedding"
    assert bert["layers"][0]["parameter_bytes"] == 4 * 768 * (30522 + 512 + 2 + 2)
    gpt2 = load("gpt2_small")["layers"]
    assert gpt2[-1]["kind"] == "matmul"
    assert gpt2[-1]["parameter_bytes"] == 4 * 768 * 50257  # shared with the embedding


def test_loads_fast():
    text = (FOLDER / "densenet121.json").read_text(encoding="utf-8")
    start = time.perf_counter()
    for _ in range(10):
        json.loads(text)
    assert (time.perf_counter() - start) / 10 < 0.05


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None,
    reason="needs torch and torchvision, which only the generator uses",
)
def test_generator_reproduces_the_files(tmp_path):
    names = ["squeezenet1_1", "yolov3_tiny"]
    chosen = [argument for name in names for argument in ("--only", name)]
    run("scripts/build_catalogue.py", *chosen, "--output", tmp_path, check=True)
    for name in names:
        made = (tmp_path / f"{name}.json").read_text(encoding="utf-8")
        kept = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
        for package in ("torch", "torchvision"):  # another release may build it, with equal result
            version = json.loads(kept)["provenance"][package]
            installed = json.loads(made)["provenance"][package]
            kept = kept.replace(f'"{package}": "{version}"', f'"{package}": "{installed}"')
        assert made == kept


def test_the_page_of_networks_is_that_of_the_files():
    from scripts.build_catalogue import networks_page

    page = (ROOT / "docs" / "networks.md").read_text("utf-8")
    assert page == networks_page(FOLDER)
