"""Profiles in files: what is written reads back equal, and what is no profile is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mjoa_gym import DNN
from mjoa_gym.dnn.file import as_text
from mjoa_gym.files import MAX_FILE_BYTES, parse_json
from mjoa_gym.layers import KINDS

amounts = st.one_of(
    st.integers(0, 2**60), st.floats(0, 1e300, allow_nan=False), st.sampled_from([5e-324, 2.0**70])
)


@st.composite
def dnns(draw: Any) -> DNN:
    n = draw(st.integers(1, 6))
    column = st.lists(amounts, min_size=n, max_size=n)
    texts = st.text(max_size=5)
    return DNN(
        name=draw(texts),
        flops=draw(column),
        parameter_bytes=draw(column),
        output_bytes=draw(column),
        predecessors=[
            draw(st.lists(st.integers(-1, layer - 1), min_size=1, unique=True))
            for layer in range(n)
        ],
        input_bytes=draw(amounts),
        kinds=draw(st.lists(st.sampled_from(KINDS), min_size=n, max_size=n)),
        layer_names=draw(st.lists(texts, min_size=n, max_size=n)),
    )


def small() -> dict[str, Any]:
    return json.loads(as_text(DNN.load("alexnet").to_dict()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "net.json"


@settings(max_examples=60)
@given(dnn=dnns())
def test_what_is_written_reads_back_equal(dnn: DNN, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("dnn") / "net.json"
    dnn.save(path)
    assert DNN.load(path) == dnn
    assert DNN.load(str(path), granularity="block") == dnn.blocks()
    assert [entry.name for entry in path.parent.iterdir()] == ["net.json"]


@pytest.mark.parametrize("name", DNN.names())
def test_the_catalogue_survives(name: str, file: Path) -> None:
    dnn = DNN.load(name)
    dnn.save(file)
    assert DNN.load(file) == dnn
    dnn.blocks().save(file)
    assert DNN.load(file) == dnn.blocks()


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_the_catalogues_files_are_read_as_files_too(name: str) -> None:
    import mjoa_gym

    path = Path(mjoa_gym.__file__).parent / "dnn" / "catalogue" / f"{name}.json"
    assert DNN.load(path) == DNN.load(name)


def test_names_and_paths_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = DNN("other", [1], [1], [1], [[-1]], 1)
    other.save("alexnet.json")
    Path("alexnet").write_text("not a profile")
    assert DNN.load("alexnet").n_layers == 12
    assert DNN.load("alexnet.json") == DNN.load("./alexnet.json") == other
    with pytest.raises(ValueError, match="alexnet: is not JSON"):
        DNN.load(Path("alexnet"))
    with pytest.raises(FileNotFoundError):
        DNN.load("absent.json")
    with pytest.raises(ValueError, match=r"name='absent': allowed are .*ends in .json"):
        DNN.load("absent")
    with pytest.raises(ValueError, match=r"path='alexnet': must end in '.json'"):
        other.save("alexnet")
    with pytest.raises(ValueError, match="is not a regular file"):
        DNN.load(tmp_path)


def test_a_failed_write_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DNN.load("alexnet").save(file)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        DNN.load("vgg16").save(file)
    assert DNN.load(file) == DNN.load("alexnet")
    assert list(file.parent.iterdir()) == [file]


def put(*path: str | int) -> Callable[[Any], Callable[[dict[str, Any]], None]]:
    def to(value: Any) -> Callable[[dict[str, Any]], None]:
        def change(profile: Any) -> None:
            for key in path[:-1]:
                profile = profile[key]
            profile[path[-1]] = value

        return change

    return to


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (put("schema")("mjoa-gym/dnn/2"), "schema='mjoa-gym/dnn/2': this version reads"),
    (lambda profile: profile.pop("schema"), "schema=None"),
    (lambda profile: profile.pop("name"), "no key 'name'"),
    (lambda profile: profile.pop("layers"), "no key 'layers'"),
    (lambda profile: profile["layers"][3].pop("kind"), r"layers\[3\] has no key 'kind'"),
    (put("extra")(1), "unknown key 'extra'"),
    (put("layers", 2, "extra")(1), r"layers\[2\] has the unknown key 'extra'"),
    (put("name")(3), "name=3: must be a text"),
    (put("title")(None), "title=None: must be a text"),
    (put("provenance")([1]), "provenance=list of 1: must be an object"),
    (put("layers")([]), "predecessors is empty"),
    (put("layers")({"0": 1}), "layers=dict of 1: must be a list"),
    (put("layers", 1)(7), r"layers\[1\]=7: must be an object"),
    (put("layers", 1, "flops")("7"), r"layers\[1\].flops='7': must be a number"),
    (put("layers", 1, "flops")(True), r"layers\[1\].flops=True: must be a number"),
    (put("layers", 1, "flops")(None), r"layers\[1\].flops=None"),
    (put("layers", 1, "flops")(-1), r"layers\[1\].flops=-1: must be finite and >= 0"),
    (put("layers", 1, "output_bytes")(10**400), r"layers\[1\].output_bytes: is too large"),
    (put("input_bytes")(-0.5), "input_bytes=-0.5"),
    (put("layers", 1, "kind")("magic"), r"kinds\[1\]='magic'"),
    (put("layers", 1, "name")(None), r"layers\[1\].name=None: must be a text"),
    (put("layers", 1, "predecessors")([]), r"predecessors\[1\] is empty"),
    (put("layers", 1, "predecessors")(0), r"layers\[1\].predecessors=0: must be a list"),
    (put("layers", 1, "predecessors")([0.0]), r"layers\[1\].predecessors has 0.0"),
    (put("layers", 1, "predecessors")([False]), r"layers\[1\].predecessors has False"),
    (put("layers", 1, "predecessors")([10**30]), r"predecessors\[1\] has 1000"),
    (put("layers", 1, "predecessors")([1]), r"predecessors\[1\] has 1: allowed"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_profile_is_refused_with_its_file(change, message: str, file: Path) -> None:
    profile = small()
    change(profile)
    file.write_text(json.dumps(profile))
    with pytest.raises(ValueError, match=rf"net\.json: .*{message}") as caught:
        DNN.load(file)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[]", "the profile=list of 0: must be an object"),
        ("null", "the profile=None"),
        ('{"schema": 1, "schema": 2}', "the key 'schema' twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"schema": NaN}', "has NaN"),
        ('{"schema": -Infinity}', "has -Infinity"),
        ("9" * 10_000, "integer string conversion|is a huge number"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_what_is_no_profile_is_refused(text: str, message: str, file: Path) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=rf"net\.json: .*({message})"):
        DNN.load(file)


def test_infinity_by_overflow_is_refused(file: Path) -> None:
    text = as_text(DNN.load("alexnet").to_dict()).replace(
        '"input_bytes": 602112', '"input_bytes": 1e999'
    )
    file.write_text(text)
    with pytest.raises(ValueError, match="input_bytes=inf"):
        DNN.load(file)


def test_a_huge_file_is_not_read(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(50 * MAX_FILE_BYTES)
    with pytest.raises(ValueError, match="more than 16,777,216 bytes"):
        DNN.load(file)


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_a_profile_or_refused(data: st.DataObject, tmp_path_factory: Any) -> None:
    content = bytearray(as_text(DNN.load("squeezenet1_1").blocks().to_dict()).encode())
    if data.draw(st.booleans(), "cut"):
        del content[data.draw(st.integers(0, len(content) - 3)) :]
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        if content:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "net.json"
    path.write_bytes(content)
    try:
        dnn = DNN.load(path)
    except ValueError as error:
        message = str(error)
    else:
        message = f"{path}: is a profile"
        assert np.isfinite(dnn.flops).all()
        assert parse_json(as_text(dnn.to_dict()).encode())["name"] == dnn.name
    assert message.startswith(f"{path}: ")
