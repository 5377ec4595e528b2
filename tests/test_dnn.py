"""DNN profiles: validation, cuts, blocks, catalogue, equality, immutability."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from mjoa_gym import DNN
from mjoa_gym.dnn.file import SCHEMA
from mjoa_gym.layers import KINDS
from tests.random_dags import STYLES, predecessors_in_style
from tests.random_dnns import random_dnn_arrays
from tests.test_catalogue import CHAINS, PUBLISHED

GOOD: dict[str, Any] = {
    "name": "toy",
    "flops": [1, 2, 3],
    "parameter_bytes": [0, 4, 8],
    "output_bytes": [5, 6, 7],
    "predecessors": [[-1], [0], [0, 1]],
    "input_bytes": 9,
}


def toy(**changes: Any) -> DNN:
    return DNN(**(GOOD | changes))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"predecessors": []}, "predecessors is empty"),
        ({"predecessors": [[-1], [], [0]]}, r"predecessors\[1\] is empty: layer 1 is unreachable"),
        ({"predecessors": [[-1], [1], [0]]}, r"predecessors\[1\] has 1: allowed .* -1..0"),
        ({"predecessors": [[-1], [2], [0]]}, r"predecessors\[1\] has 2"),
        ({"predecessors": [[-1], [-2], [0]]}, r"predecessors\[1\] has -2: .*one input tensor"),
        ({"predecessors": [[-1], [0, 0], [0]]}, r"predecessors\[1\]=\[0, 0\] names a layer twice"),
        ({"predecessors": [[-1], [0.5], [0]]}, r"predecessors\[1\]=\[0.5\]: .*whole numbers"),
        ({"predecessors": [[-1], ["a"], [0]]}, r"predecessors\[1\]=\['a'\]: must be a list"),
        ({"predecessors": [[-1], [None], [0]]}, r"predecessors\[1\]=\[None\]"),
        ({"predecessors": [[-1], 0, 1]}, r"predecessors\[1\]=0: must be a list of indices"),
        ({"flops": [1, -2, 3]}, r"flops\[1\]=-2.0: must be finite and >= 0"),
        ({"flops": [1, 2]}, r"flops has shape \(2,\); \(3,\)"),
        ({"flops": [1, "many", 3]}, "flops must hold numbers"),
        ({"parameter_bytes": [0, 0, np.inf]}, r"parameter_bytes\[2\]=inf"),
        ({"output_bytes": [np.nan, 0, 0]}, r"output_bytes\[0\]=nan"),
        ({"input_bytes": -1}, r"input_bytes\[0\]=-1.0"),
        ({"kinds": ["conv", "convolution", "pool"]}, r"kinds\[1\]='convolution': allowed are"),
        ({"kinds": ["conv"]}, "kinds has 1 entries for 3 layers"),
        ({"layer_names": ["a", "b"]}, "layer_names has 2 entries for 3 layers"),
    ],
)
def test_errors_name_layer_and_value(wrong, message):
    with pytest.raises(ValueError, match=message):
        toy(**wrong)


def test_flat_predecessors():
    dnn = toy()
    assert dnn.predecessor_offsets.tolist() == [0, 1, 2, 4]
    assert dnn.predecessor_indices.tolist() == [-1, 0, 0, 1]
    assert dnn.is_sink.tolist() == [False, False, True]
    assert dnn.n_layers == 3
    assert dnn.kinds == ("other",) * 3
    assert dnn.layer_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("predecessors", "cuts", "is_chain"),
    [
        ([[-1]], [0], True),
        ([[-1], [0], [1]], [0, 1, 2], True),
        ([[-1], [0], [0, 1], [2]], [0, 2, 3], False),  # a skip over layer 1
        ([[-1], [0], [-1, 1], [2]], [2, 3], False),  # the input is read once more
        ([[-1], [-1], [0, 1], [2]], [2, 3], False),  # two branches from the input
        ([[-1], [0], [0], [0]], [0, 3], False),  # three outputs
        ([[-1], [0], [0], [2], [3]], [0, 4], False),  # an early output: nothing after it is a cut
        ([[-1], [-1]], [1], False),
    ],
)
def test_cuts(predecessors, cuts, is_chain):
    n = len(predecessors)
    dnn = DNN("g", np.ones(n), np.ones(n), np.ones(n), predecessors, 1)
    assert np.flatnonzero(dnn.is_cut).tolist() == cuts
    assert dnn.is_chain == is_chain


@pytest.mark.parametrize("style", STYLES)
def test_cuts_are_what_every_path_passes(style):
    """By their definition: without a cut layer, no path leads from the input to an output."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 14))
        rows = predecessors_in_style(style, rng, n)
        dnn = DNN("g", np.ones(n), np.ones(n), np.ones(n), rows, 1)
        for removed in range(n - 1):
            reached = {-1}
            for layer, row in enumerate(rows):
                if layer != removed and reached & set(row):
                    reached.add(layer)
            passes_all = not any(dnn.is_sink[layer] for layer in reached if layer >= 0)
            assert dnn.is_cut[removed] == passes_all


def test_blocks_of_a_small_network():
    dnn = DNN(
        "net",
        flops=[1, 5, 2, 4, 1, 1],
        parameter_bytes=[1, 2, 4, 8, 16, 32],
        output_bytes=[10, 20, 30, 40, 50, 60],
        predecessors=[[-1], [0], [0, 1], [2], [3], [3]],
        input_bytes=7,
        kinds=["pool", "conv", "norm", "linear", "other", "other"],
        layer_names="abcdef",
    )
    blocks = dnn.blocks()
    assert blocks.layers is dnn
    assert blocks.block_of.tolist() == [0, 1, 1, 2, 3, 3]
    assert blocks.flops.tolist() == [1, 7, 4, 2]
    assert blocks.parameter_bytes.tolist() == [1, 6, 8, 48]
    assert blocks.output_bytes.tolist() == [10, 30, 40, 110]  # both outputs leave the last block
    assert blocks.kinds == ("pool", "conv", "linear", "other")
    assert blocks.layer_names == ("a", "c", "d", "f")
    assert blocks.is_chain
    assert blocks.blocks() is blocks


@pytest.mark.parametrize("seed", range(30))
def test_blocks_keep_the_sums(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 20))
    arrays = random_dnn_arrays(rng, n, chain=seed % 5 == 0)
    del arrays["ue_seconds"], arrays["edge_seconds"]
    dnn = DNN("random", **arrays)
    blocks = dnn.blocks()
    assert blocks.flops.sum() == dnn.flops.sum()
    assert blocks.parameter_bytes.sum() == dnn.parameter_bytes.sum()
    assert blocks.output_bytes[-1] == dnn.output_bytes[dnn.is_sink].sum()
    assert blocks.n_layers == dnn.is_cut.sum()
    if dnn.is_chain:
        assert np.array_equal(blocks.output_bytes, dnn.output_bytes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_catalogue_at_both_granularities(name):
    assert name in DNN.names()
    layers, blocks = DNN.load(name), DNN.load(name, granularity="block")
    assert layers.name == blocks.name == name
    assert layers.is_chain == (name in CHAINS)
    assert blocks.is_chain
    assert blocks == layers.blocks()
    assert blocks.flops.sum() == layers.flops.sum()
    assert blocks.parameter_bytes.sum() == layers.parameter_bytes.sum()
    assert layers.is_sink.sum() >= 1
    assert set(layers.kinds) <= set(KINDS)
    if name in CHAINS:
        assert blocks.n_layers == layers.n_layers


def test_errors_of_the_catalogue():
    with pytest.raises(ValueError, match=r"name='vgg61'.*did you mean 'vgg16'"):
        DNN.load("vgg61")
    with pytest.raises(ValueError, match="granularity='tensor'"):
        DNN.load("vgg16", granularity="tensor")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="schema='mjoa-gym/dnn/0'"):
        DNN.from_dict({"schema": "mjoa-gym/dnn/0"})
    with pytest.raises(ValueError, match="no key 'input_bytes'"):
        DNN.from_dict({"schema": SCHEMA, "name": "x", "layers": []})


def test_equality():
    assert toy() == toy(flops=(1.0, 2.0, 3.0), predecessors=((-1,), (0,), (0, 1)))
    assert hash(toy()) == hash(toy())
    for change in (
        {"name": "other"},
        {"flops": [1, 2, 4]},
        {"parameter_bytes": [0, 4, 9]},
        {"output_bytes": [5, 6, 8]},
        {"predecessors": [[-1], [0], [1]]},
        {"input_bytes": 10},
        {"kinds": ["conv", "pool", "linear"]},
        {"layer_names": ["a", "b", "c"]},
    ):
        assert toy() != toy(**change)
    assert toy() != "toy"
    assert len({toy(), toy(), toy(name="other")}) == 2


@pytest.mark.parametrize(
    "clone", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_immutable_also_as_a_copy(clone):
    flops = np.array([1.0, 2.0, 3.0])
    original = toy(flops=flops).blocks()
    flops[0] = 99.0
    assert original.flops[0] == 1.0  # the caller's array is another one
    dnn = clone(original)
    assert dnn == original
    assert dnn.layers == original.layers
    with pytest.raises(AttributeError):
        dnn.name = "other"  # type: ignore[misc]
    names = ("flops", "parameter_bytes", "output_bytes", "block_of", "is_cut", "is_sink")
    for array in (getattr(dnn, name) for name in (*names, "predecessor_indices")):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
