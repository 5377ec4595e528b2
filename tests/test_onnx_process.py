"""`DNN.from_onnx` leaves the work to a child process with limits, and gets plain data back."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from itertools import pairwise

import pytest

pytest.importorskip("onnx_ir", reason="needs onnx-ir")

from mjoa_gym import DNN
from mjoa_gym.profiles import onnx_process
from mjoa_gym.profiles.graph import UnknownOperatorWarning
from tests.onnx_graphs import dnn_of, model, node, value, weight

X = [value("x", "n", 4)]


def write(folder, made):
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def small(folder):
    nodes = [
        node("MatMul", "x w", "a", name="näme\n"),
        node("Mystery", "a", "b", domain="odd"),
        node("Softmax", "b", "y"),
    ]
    declared = [value("b", "n", 5)]
    made = model(nodes, X, "y", [weight("w", 4, 5)], declared=declared, domains=["odd"])
    return write(folder, made)


def test_the_result_is_that_of_this_process(tmp_path):
    path = small(tmp_path)
    with pytest.warns(UnknownOperatorWarning, match=r"odd\.Mystery") as caught:
        apart = DNN.from_onnx(path, name="mine", input_shapes={"x": (3, 4)})
    (warning,) = caught
    assert warning.filename == __file__
    with pytest.warns(UnknownOperatorWarning):
        here = dnn_of(path, {"x": (3, 4)})
    assert apart.name == "mine"
    assert apart.layer_names == here.layer_names == ("näme\n", "y")
    assert apart.flops.tolist() == here.flops.tolist() == [2 * 3 * 4 * 5, 5 * 15]
    assert apart.kinds == here.kinds


def test_this_process_imports_no_library_for_onnx(tmp_path):
    code = (
        "import sys\nfrom mjoa_gym import DNN\n"
        f"assert DNN.from_onnx({str(small(tmp_path))!r}).n_layers == 2\n"
        "found = [name for name in sys.modules if name.split('.')[0] in"
        " ('onnx', 'onnx_ir', 'onnxscript', 'google', 'sympy')]\n"
        "assert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("limit", "amount", "reason"),
    [
        ("MAX_MEMORY_BYTES", 240 * 2**20, "(needs more memory than is allowed|.*GiB of memory)"),
        ("MAX_CPU_SECONDS", 1, "takes more than 1 s of processor time to read"),
        ("MAX_SECONDS", 0.2, r"takes more than 0\.2 s to read"),
    ],
)
def test_limits_end_the_child(limit, amount, reason, tmp_path, monkeypatch):
    pytest.importorskip("resource", reason="limits need a POSIX system")
    monkeypatch.setattr(onnx_process, limit, amount)
    names = ["x", *(f"t{k}" for k in range(8_000)), "y"]  # some seconds of work, and bytes
    chain = [node("Relu", read, made) for read, made in pairwise(names)]
    chain[0] = node("Relu", *names[:2], comment="a" * 40_000_000)
    path = write(tmp_path, model(chain, X, "y"))
    with pytest.raises(ValueError, match=rf"model\.onnx: {reason}"):
        DNN.from_onnx(path)


@pytest.mark.parametrize(
    ("child", "reason"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV ended a process"),
        ("raise SystemExit('no more')", "cannot be read: no more"),
    ],
)
def test_a_child_that_ends_without_an_answer(child, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_process, "_CHILD", child)
    with pytest.raises(ValueError, match=rf"model\.onnx: .*{reason}"):
        DNN.from_onnx(small(tmp_path))


def test_what_ends_onnx_ends_only_the_child(tmp_path):
    nodes = [node("Split", "x", "y z t", num_outputs=2, axis=1)]  # an assertion in its C++
    with pytest.raises(ValueError, match=r"model\.onnx: "):
        DNN.from_onnx(write(tmp_path, model(nodes, X, "y")))


def test_packages_that_are_missing(tmp_path, monkeypatch):
    path, found = small(tmp_path), importlib.util.find_spec
    for package in ("onnx", "onnx_ir"):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, package=package: None if name == package else found(name),
        )
        with pytest.raises(
            ImportError, match=rf"{package} is needed: pip install 'mjoa-gym\[onnx\]'"
        ):
            DNN.from_onnx(path)
    monkeypatch.undo()
    (tmp_path / "onnx_ir.py").write_text("import a_package_that_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"a_package_that_is_missing.*: pip install"):
        DNN.from_onnx(path)


def test_a_file_that_is_refused_needs_no_child(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_process, "_CHILD", "raise SystemExit('a child')")
    path = tmp_path / "model.onnx"
    for data in (b"", b"\xff" * 99):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.onnx: is"):
            DNN.from_onnx(path)
    with pytest.raises(
        ValueError, match=r"input_shapes\['x'\]=\(0, 4\): must be whole numbers above 0"
    ):
        DNN.from_onnx(small(tmp_path), input_shapes={"x": (0, 4)})
    with warnings.catch_warnings(), pytest.raises(FileNotFoundError):
        DNN.from_onnx(tmp_path / "missing.onnx")
