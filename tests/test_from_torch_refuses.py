"""What `DNN.from_torch` refuses or leaves out, and how it says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mjoa_gym.dnn import DNN

torch = pytest.importorskip("torch", reason="needs torch")
nn = torch.nn

torch.set_num_threads(1)


class Config:
    factor = 2


def _assert_size(self, x):
    assert x.shape[1] == 4
    return x


UNFIT = {
    "branch": (
        lambda self, x: x * 2 if x.sum() > 0 else x,
        (torch.zeros(2),),
        "values of a tensor",
    ),
    "loop": (
        lambda self, x: sum(x for _ in range(int(x.max()))),
        (torch.ones(2),),
        "values of a tensor",
    ),
    "selection": (lambda self, x: x[x > 0], (torch.ones(2),), "aten.index.Tensor"),
    "numpy": (lambda self, x: torch.from_numpy(x.numpy()), (torch.ones(2),), "values of a tensor"),
    "constant": (lambda self, x: torch.ones(2), (torch.ones(2),), "no output depends on an input"),
    "missing": (lambda self, x, y: x + y, (torch.ones(2),), "do not fit its forward"),
    "shapes": (lambda self, x: x @ x, (torch.ones(2, 3),), "do not fit its forward"),
    "object": (lambda self, x, c: x * c.factor, (torch.ones(2), Config()), "neither a tensor nor"),
    "assertion": (_assert_size, (torch.ones(2, 3),), "do not fit its forward"),
    "error": (lambda self, x: {}["absent"], (torch.ones(2),), "KeyError"),
}


@pytest.mark.parametrize("why", UNFIT)
def test_what_cannot_be_exported_fails_with_the_reason(why, capfd):
    forward, example, message = UNFIT[why]

    class Unfit(nn.Module):
        pass

    Unfit.forward = forward
    with pytest.raises(ValueError, match=message) as caught:
        DNN.from_torch(Unfit(), example)
    assert len(str(caught.value)) < 500
    assert str(caught.value).count("\n") <= 1
    assert capfd.readouterr() == ("", "")  # torch prints the graph it could not finish


@pytest.mark.parametrize(
    ("module", "example"), [(3, ()), (nn.Linear(2, 2), 3), (nn.Linear(2, 2), None)]
)
def test_wrong_arguments_are_named(module, example):
    with pytest.raises(ValueError, match=r"module=3|example_inputs="):
        DNN.from_torch(module, example)


def test_outputs_that_torch_does_not_know_are_left_out():
    class Cache:
        pass

    class Cached(nn.Linear):
        def forward(self, x):
            return super().forward(x), Cache()

    module = Cached(3, 2)
    with pytest.warns(UserWarning, match="type Cache are left out") as caught:
        dnn = DNN.from_torch(module, torch.zeros(1, 3))
    assert [warning.filename for warning in caught] == [__file__]
    assert dnn.n_layers == 1
    assert isinstance(module(torch.zeros(1, 3))[1], Cache)  # the module itself is as it was


def test_the_package_imports_without_torch():
    code = "import sys, mjoa_gym, mjoa_gym.profiles.fuse; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
