"""`mjoa-gym profile` prints, saves and draws a model."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mjoa_gym import DNN
from mjoa_gym.cli.main import main
from mjoa_gym.layers import INPUT
from mjoa_gym.rendering.network_layout import layout
from tests.random_dags import STYLES, predecessors_in_style


def test_prints_and_writes_a_model_of_the_catalogue(tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    assert main(["profile", "googlenet", "--output", str(tmp_path), "--picture", "svg"]) == 0
    printed = capsys.readouterr().out
    dnn = DNN.load("googlenet")
    assert DNN.load(tmp_path / "googlenet.json") == dnn
    assert len(re.findall(r"^ *\d+ ", printed, re.MULTILINE)) == dnn.n_layers
    assert f"{dnn.flops.sum() / 1e6:.3f}" in printed.splitlines()[dnn.n_layers + 3]
    picture = (tmp_path / "googlenet.svg").read_text("utf-8")
    assert "inception4b.branch2.1.conv" in picture
    assert picture.count("401 kB") >= 4  # what passes from module to module


def test_profiles_a_function_of_the_users_own(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("torch")
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "def tokens():\n"
        "    return nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))\n"
        "def broken():\n    return nn.Linear(2)\n"
        "def number():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    options = ["--input-shape", "1,6", "--dtype", "int64", "--picture", "none", "--name", "mine"]
    assert main(["profile", "own_nets:tokens", *options]) == 0
    dnn = DNN.load(tmp_path / "mine.json")
    assert dnn.kinds == ("embedding", "matmul")
    assert dnn.input_bytes == 6 * 8
    assert main(["profile", "mine.json", "--blocks", "--no-files"]) == 0
    assert main(["profile", "resnet18", "--name", "mine"]) == 1  # it would replace another profile
    assert DNN.load(tmp_path / "mine.json") == dnn
    assert "mine.json exists" in capsys.readouterr().err
    for model, message in {
        "own_nets:broken": "TypeError",
        "own_nets:number": "returned int, not a torch module",
        "own_nets:absent": "absent",
        "no_such_module:f": "No module named 'no_such_module'",
        "resnet17": "did you mean 'resnet18'",
        "absent.json": "absent.json",
    }.items():
        assert main(["profile", model]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("style", STYLES)
def test_no_two_boxes_overlap_and_lines_go_down(style) -> None:
    for seed in range(5):
        predecessors = predecessors_in_style(style, np.random.default_rng(seed), 40)
        plan = layout(predecessors, rows_per_column=15)
        boxes = list(plan.boxes.values())
        for i, (_, x, y) in enumerate(boxes):
            assert 0.5 <= x <= plan.width
            assert 0 <= y < plan.height <= 15
            assert not any(abs(x - u) < 0.99 and abs(y - v) < 0.99 for _, u, v in boxes[:i])
        edges = {(source, layer) for layer, ps in enumerate(predecessors) for source in ps}
        assert {(route.producer, route.reader) for route in plan.routes} == edges
        for route in plan.routes:
            ends = (plan.boxes[route.producer], *route.points, plan.boxes[route.reader])
            assert list(ends) == sorted(ends, key=lambda point: (point[0], point[2]))
    assert INPUT in plan.boxes
