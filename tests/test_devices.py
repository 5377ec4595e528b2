import json
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mjoa_gym.devices import (
    FlopsDevice,
    RegressionDevice,
    RooflineDevice,
    TableDevice,
    device_names,
    layer_bytes,
    load_device,
)


def network(name="toy", **changes):
    """A DNN of four layers with a skip connection; layer 3 reads layers 0 and 2."""
    fields = {
        "name": name,
        "n_layers": 4,
        "layer_names": ("conv1", "dw2", "relu3", "fc4"),
        "kinds": ("conv", "depthwise_conv", "elementwise", "linear"),
        "flops": np.array([1000.0, 90.0, 0.0, 400.0]),
        "parameter_bytes": np.array([40.0, 4.0, 0.0, 800.0]),
        "output_bytes": np.array([10.0, 20.0, 20.0, 5.0]),
        "input_bytes": 7.0,
        "predecessors": ((-1,), (0,), (1,), (0, 2)),
        "layers": None,
        "block_of": None,
    }
    return SimpleNamespace(**({"full": None} | fields | changes))


def cnn(name, size, convs, linears):
    """A chain of convolutions (channels, kernel, stride, padding, groups), pools, linear."""
    channels, kinds, flops, parameters, outputs = 3, [], [], [], []
    input_bytes = 4.0 * channels * size**2
    for step in convs:
        if isinstance(step, tuple):
            out, kernel, stride, padding, groups = step
            size = (size + 2 * padding - kernel) // stride + 1
            weights = kernel**2 * channels * out // groups
            kinds.append("depthwise_conv" if groups == channels > 1 else "conv")
            flops.append(2 * weights * size**2)
            parameters.append(4 * (weights + out))
            channels = out
        else:  # a pool that leaves `step` pixels
            flops.append(size**2 * channels)
            size = step
            kinds.append("pool")
            parameters.append(0)
        outputs.append(4 * channels * size**2)
    rows = channels * size**2
    for columns in linears:
        kinds.append("linear")
        flops.append(2 * rows * columns)
        parameters.append(4 * (rows + 1) * columns)
        outputs.append(4 * columns)
        rows = columns
    return network(
        name,
        n_layers=len(kinds),
        layer_names=tuple(f"layer{i}" for i in range(len(kinds))),
        kinds=tuple(kinds),
        flops=np.array(flops, dtype=float),
        parameter_bytes=np.array(parameters, dtype=float),
        output_bytes=np.array(outputs, dtype=float),
        input_bytes=input_bytes,
        predecessors=tuple((i - 1,) for i in range(len(kinds))),
    )


def conv3(channels):
    return (channels, 3, 1, 1, 1)


def separable():
    channels = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    strides = [1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1]
    convs = [(32, 3, 2, 1, 1)]
    for old, new, stride in zip(channels, channels[1:], strides, strict=False):
        convs += [(old, 3, stride, 1, old), (new, 1, 1, 0, 1)]
    return [*convs, 1]


ALEXNET = cnn(
    "alexnet",
    227,
    [
        *((96, 11, 4, 0, 1), 27),
        *((256, 5, 1, 2, 2), 13),
        *(conv3(384), (384, 3, 1, 1, 2), (256, 3, 1, 1, 2), 6),
    ],
    [4096, 4096, 1000],
)
VGG16 = cnn(
    "vgg16",
    224,
    [
        *(conv3(64), conv3(64), 112),
        *(conv3(128), conv3(128), 56),
        *(conv3(256), conv3(256), conv3(256), 28),
        *(conv3(512), conv3(512), conv3(512), 14),
        *(conv3(512), conv3(512), conv3(512), 7),
    ],
    [4096, 4096, 1000],
)
MOBILENET = cnn("mobilenet", 224, separable(), [1000])

ROOFLINE = RooflineDevice(
    "r", {"conv": 100.0, "depthwise_conv": 10.0, "other": 50.0}, 10.0, overhead_s=0.5
)


def test_flops_device_divides_by_speed():
    seconds = FlopsDevice("f", 100.0, overhead_s=0.5).seconds(network())
    np.testing.assert_allclose(seconds, [10.5, 1.4, 0.5, 4.5])
    assert seconds.dtype == np.float64


def test_layer_bytes_are_inputs_parameters_and_output():
    np.testing.assert_array_equal(layer_bytes(network()), [57, 34, 40, 835])


def test_an_embedding_reads_only_the_rows_it_looks_up():
    dnn = network(kinds=("embedding",) * 4)
    np.testing.assert_array_equal(layer_bytes(dnn), [7 + 10 + 10, 10 + 4 + 20, 40, 30 + 5 + 5])


def test_roofline_takes_the_larger_bound():
    np.testing.assert_allclose(ROOFLINE.seconds(network()), [10.5, 9.5, 4.5, 84.0])


def test_sum_adds_both_bounds():
    device = RooflineDevice("r", ROOFLINE.throughput_flops_per_s, 10.0, 0.5, combine="sum")
    np.testing.assert_allclose(device.seconds(network()), [16.2, 12.9, 4.5, 92.0])


@pytest.mark.parametrize("device", [FlopsDevice("f", 100.0), ROOFLINE])
def test_blocks_take_the_sum_of_their_layers(device):
    layers = network()
    blocks = SimpleNamespace(
        name="toy", n_layers=2, layers=layers, block_of=np.array([0, 1, 1, 1]), full=None
    )
    first, *rest = device.seconds(layers)
    np.testing.assert_allclose(device.seconds(blocks), [first, sum(rest)])


def test_a_scaled_device_is_faster_by_the_factor():
    np.testing.assert_allclose(
        ROOFLINE.scaled(4).seconds(network()), ROOFLINE.seconds(network()) / 4
    )
    assert ROOFLINE.scaled(4).name == "r x4"


@pytest.mark.parametrize("name", device_names())
def test_devices_are_immutable_hashable_and_picklable(name):
    device = load_device(name)
    with pytest.raises(AttributeError):
        device.name = "other"
    assert pickle.loads(pickle.dumps(device)) == device
    assert len({device, load_device(name)}) == 1


def test_a_device_keeps_its_own_copy_of_the_figures():
    figures = {"other": 1.0}
    device = RooflineDevice("r", figures, 1.0)
    figures["other"] = 2.0
    assert device.throughput_flops_per_s == {"other": 1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlopsDevice("", 1.0), "name='': must be a text that is not empty"),
        (lambda: FlopsDevice(5, 1.0), "name=5: must be a text"),
        (lambda: FlopsDevice("f", 0.0), "flops_per_s=0.0: must be above 0"),
        (lambda: FlopsDevice("f", float("nan")), "flops_per_s=nan: must be finite"),
        (lambda: FlopsDevice("f", "1"), "flops_per_s='1': must be a number"),
        (lambda: FlopsDevice("f", True), "flops_per_s=True: must be a number"),
        (lambda: FlopsDevice("f", 1.0, -1.0), "overhead_s=-1.0: must be finite and >= 0"),
        (lambda: RooflineDevice("r", {}, 1.0), r"has \[\]: 'other' is needed"),
        (lambda: RooflineDevice("r", {"other": 1, "pol": 1}, 1.0), "='pol': .*did you mean 'pool'"),
        (lambda: RooflineDevice("r", {"other": -1.0}, 1.0), r"\['other'\]=-1.0: must be"),
        (lambda: RooflineDevice("r", {"other": 1.0}, 0.0), "memory_bytes_per_s=0.0: must be"),
        (
            lambda: RooflineDevice("r", {"other": 1.0}, 1.0, combine="mean"),
            "combine='mean': allowed",
        ),
        (lambda: TableDevice("t", {"toy": {"a": -1.0}}), r"tables\['toy'\]\['a'\]=-1.0: must be"),
        (lambda: TableDevice("t", {"toy": 3}), r"tables\['toy'\]=3: must be an object"),
        (lambda: TableDevice("t", [1]), "tables=list of 1: must be an object"),
        (lambda: TableDevice("t", {}, {"colour": "red"}), "label='colour': allowed are"),
        (lambda: RegressionDevice("r", {"gemm": {}}), "kind in coefficients='gemm': allowed are"),
        (lambda: RegressionDevice("r", {"conv": {"flop": 1}}), "'flop': .*did you mean 'flops'"),
        (
            lambda: RegressionDevice("r", {"conv": {"flops": "1"}}),
            r"\['flops'\]='1': must be a num",
        ),
        (lambda: RegressionDevice("r", {"conv": 1.0}), r"\['conv'\]=1.0: must be an object"),
        (lambda: FlopsDevice("f", 1.0).scaled(0), "speed=0.0: must be above 0"),
        (lambda: load_device("abacus"), "name_or_path='abacus': .*raspberry-pi-4.*ends in .json"),
        (lambda: load_device("raspbery-pi-4"), "did you mean 'raspberry-pi-4'"),
    ],
)
def test_errors_name_field_value_and_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def write(path, text):
    text = json.dumps(text) if isinstance(text, dict) else text
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_json_table_by_layer_name(tmp_path):
    layers = {"fc4": 4.0, "conv1": 1.0, "dw2": 2.0, "relu3": 3.0}
    content = {"name": "my-pi", "runtime": "ncnn", "threads": 4, "tables": {"toy": layers}}
    device = load_device(write(tmp_path / "pi.json", content))
    np.testing.assert_array_equal(device.seconds(network()), [1, 2, 3, 4])
    assert device.name == "my-pi"
    assert device.labels == {"runtime": "ncnn", "threads": "4"}


def test_a_json_table_by_position(tmp_path):
    device = load_device(write(tmp_path / "pi.json", {"tables": {"toy": [4, 3, 2, 1]}}))
    np.testing.assert_array_equal(device.seconds(network()), [4, 3, 2, 1])
    assert device.name == "pi"


def test_a_csv_table(tmp_path):
    text = (
        "dnn,layer,seconds,device,runtime,threads,date\n"
        "toy,conv1,1e-3,Pi 4,ncnn,4,2026-11-01\ntoy,dw2,2,Pi 4,ncnn,4,2026-11-01\n"
        "toy,relu3,0,Pi 4,ncnn,4,2026-11-01\ntoy,fc4,4,Pi 4,ncnn,4,2026-11-01\n"
        "other,0,9,Pi 4,ncnn,4,2026-11-01\n"
    )
    device = load_device(write(tmp_path / "pi.csv", text))
    np.testing.assert_array_equal(device.seconds(network()), [1e-3, 2, 0, 4])
    assert device.labels == {
        "device": "Pi 4",
        "runtime": "ncnn",
        "threads": "4",
        "date": "2026-11-01",
    }
    with pytest.raises(
        ValueError, match=r"dnn of table 'pi'='vgg16': allowed are \['other', 'toy'\]"
    ):
        device.seconds(VGG16)


def test_a_table_of_layers_serves_the_blocks(tmp_path):
    device = load_device(write(tmp_path / "pi.json", {"tables": {"toy": [4, 3, 2, 1]}}))
    blocks = SimpleNamespace(
        full=None, name="toy-blocks", n_layers=2, layers=network(), block_of=np.array([0, 0, 1, 1])
    )
    np.testing.assert_array_equal(device.seconds(blocks), [7, 3])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1, 2, 3], "layers of table 't', dnn 'toy': missing: '3'$"),
        ([1, 2, 3, 4, 5], "dnn 'toy': not in the network: '4'$"),
        ({"conv1": 1, "dw2": 1, "relu3": 1}, "missing: 'fc4'$"),
        ({"conv1": 1, "dw2": 1, "relu3": 1, "fc4": 1, "fc5": 1}, "not in the network: 'fc5'$"),
        (
            {"conv1": 1, "dw2": 1, "relu3": 1, "fc_4": 1},
            "missing: 'fc4', not in the network: 'fc_4'; did you mean 'fc4'",
        ),
        ({}, "missing: 'conv1', 'dw2', 'relu3', 'fc4'$"),
        ({str(n): 1 for n in range(4, 12)}, "network: '4', '5', '6', '7', '8' and 3 more"),
    ],
)
def test_a_table_must_fit_the_dnn(tmp_path, table, message):
    device = load_device(write(tmp_path / "t.json", {"tables": {"toy": table}}))
    with pytest.raises(ValueError, match=message):
        device.seconds(network())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", "", "is not JSON: Expecting value"),
        ("t.json", "{", "is not JSON: Expecting property name"),
        ("t.json", b'{"tables": {"n\xe9": []}}', "is not UTF-8: "),
        ("t.json", "[" * 100_000, "is nested too deeply"),
        ("t.json", "[]", "the content=list of 0: must be an object"),
        ("t.json", "3", "the content=3: must be an object"),
        ("t.json", {}, r"has the keys \[\]: one of 'tables' and 'coefficients' is needed"),
        ("t.json", {"tables": {}, "coefficients": {}}, "one of 'tables' and 'coefficients'"),
        ("t.json", {"tables": {}, "cores": 4}, "key='cores': allowed are"),
        ("t.json", {"tables": {}, "threads": [4]}, "threads=list of 1: must be a text"),
        ("t.json", {"tables": {}, "name": 5}, "name=5: must be a text"),
        ("t.json", {"tables": [3]}, "tables=list of 1: must be an object"),
        ("t.json", {"tables": {"toy": 3}}, r"tables\['toy'\]=3: must be an object"),
        ("t.json", {"tables": {"toy": [float("nan")]}}, "has NaN, which is not a number"),
        ("t.json", '{"tables": {"toy": [1e999]}}', r"\['toy'\]\['0'\]=inf: must be finite"),
        ("t.json", '{"tables": {"toy": [1%s]}}' % ("0" * 400), r"\['0'\]: is too large"),
        ("t.json", '{"tables": {"toy": [1%s]}}' % ("0" * 5000), "Exceeds the limit"),
        ("t.json", {"tables": {"toy": ["fast"]}}, r"\['toy'\]\['0'\]='fast': must be a number"),
        ("t.json", {"tables": {"toy": [True]}}, r"\['0'\]=True: must be a number"),
        ("t.json", '{"tables": {"toy": {"a": 1, "a": 2}}}', "has the key 'a' twice"),
        ("t.json", {"coefficients": {"conv": [1]}}, r"\['conv'\]=list of 1: must be an object"),
        ("t.csv", "", "is empty: the columns dnn, layer, seconds are needed"),
        ("t.csv", "\n\n;;\n", "is empty: the columns"),
        ("t.csv", b"\xff\xfed", "is not UTF-16: "),
        ("t.csv", b"dnn,layer,seconds\nn\xe9,0,1\n", "is not UTF-8: "),
        ("t.csv", "dnn,layer\n", r"columns are \['dnn', 'layer'\]: 'seconds' is missing"),
        ("t.csv", "dnn,layer,seconds,Layer\n", "'layer' occurs twice"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,quick\n", "line 2: seconds='quick': must be a number"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,-1\n", "line 2: seconds=-1.0: must be"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,nan\n", "line 2: seconds=nan: must be"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,1e999\n", "line 2: seconds=inf: must be"),
        ("t.csv", 'dnn,layer,seconds\ntoy,0,"0,5"\n', "line 2: seconds='0,5': must be"),
        ("t.csv", "dnn;layer;seconds\ntoy;0;1.000,5\n", "line 2: seconds='1.000.5': must be"),
        ("t.csv", "dnn,layer,seconds\ntoy,0\n", "line 2: has 2 values: 3 are needed"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,1,2\n", "line 2: has 4 values: 3 are needed"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,1\ntoy,0 ,1\n", "line 3: layer='0': occurs twice"),
        ("t.csv", "dnn,layer,seconds\n" + "a" * 200_000, "line 2: field larger than"),
        (
            "t.csv",
            "dnn,layer,seconds,date\ntoy,0,1,a\ntoy,1,1,b\n",
            "line 3: date='b': must be 'a' as before",
        ),
    ],
    ids=str,
)
def test_a_bad_file_is_refused_by_name(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
        load_device(write(tmp_path / name, text))


def test_what_is_no_file_is_refused_by_name(tmp_path):
    for name in ("folder.json", "folder.csv"):
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=f"{name}: is not a regular file"):
            load_device(tmp_path / name)
    with (tmp_path / "huge.csv").open("wb") as sparse:
        sparse.truncate(2**30)
    with pytest.raises(ValueError, match=r"huge\.csv: has more than"):
        load_device(tmp_path / "huge.csv")
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        load_device(tmp_path / "absent.json")


PLAIN = """dnn,layer,seconds,runtime
toy,conv1,0.5,ncnn
toy,dw2,2,ncnn
toy,relu3,0,ncnn
toy,fc4,4,ncnn
"""
SAVED = {
    "plain": PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "decimal commas": PLAIN.replace(",", ";").replace("0.5", "0,5"),
    "tabs": PLAIN.replace(",", "\t"),
    "tabs and decimal commas": PLAIN.replace(",", "\t").replace("0.5", "0,5"),
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "only carriage returns": PLAIN.replace("\n", "\r"),
    "no last line end": PLAIN.rstrip(),
    "mark": PLAIN.encode("utf-8-sig"),
    "mark and carriage returns": PLAIN.replace("\n", "\r\n").encode("utf-8-sig"),
    "UTF-16": PLAIN.replace(",", "\t").encode("utf-16"),
    "UTF-16, other end": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "upper case": PLAIN.replace("dnn,layer,seconds,runtime", "DNN,Layer,SECONDS,Runtime"),
    "spaces": PLAIN.replace(",", " , "),
    "quotes": '"' + PLAIN.rstrip().replace(",", '","').replace("\n", '"\n"') + '"\n',
    "quotes and spaces": '"' + PLAIN.rstrip().replace(",", '" , "').replace("\n", '"\n"') + '"\n',
    "more columns": PLAIN.replace("\n", ",7,\n").replace("runtime,7,", "runtime,ms,note"),
    "another order": "\n".join(",".join(line.split(",")[::-1]) for line in PLAIN.splitlines()),
    "nameless columns": PLAIN.replace("\n", ",,\n"),
    "empty lines": "\n" + PLAIN.replace("\n", "\n\n") + ",,,\n,,,\n",
    "values beyond the header's": PLAIN.replace("ncnn\n", "ncnn,,\n"),
}


@pytest.mark.parametrize("how", SAVED)
@pytest.mark.parametrize("name", ["pi.csv", "pi.CSV", "pi.tsv"])
def test_a_table_is_read_however_it_was_saved(tmp_path, how, name):
    device = load_device(write(tmp_path / name, SAVED[how]))
    np.testing.assert_array_equal(device.seconds(network()), [0.5, 2, 0, 4])
    assert (device.name, device.labels) == ("pi", {"runtime": "ncnn"})


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_may_have_a_byte_order_mark(tmp_path, encoding):
    text = json.dumps({"tables": {"toy": [4, 3, 2, 1]}}).encode(encoding)
    device = load_device(write(tmp_path / "pi.json", text))
    np.testing.assert_array_equal(device.seconds(network()), [4, 3, 2, 1])


def test_positions_serve_networks_whose_names_are_numbers(tmp_path):
    dnn = network(layer_names=("0", "2", "3", "5"))
    by_position = {"tables": {"toy": [1, 2, 3, 4]}}
    by_name = {"tables": {"toy": {"5": 4, "0": 1, "2": 2, "3": 3}}}
    for content in (by_position, by_name):
        device = load_device(write(tmp_path / "pi.json", content))
        np.testing.assert_array_equal(device.seconds(dnn), [1, 2, 3, 4])


REGRESSION = {
    "conv": {"flops": 0.001, "input_bytes": 1, "constant": 0.5},
    "linear": {"parameter_bytes": 0.01, "output_bytes": 2, "constant": -100},
    "other": {"output_bytes": 0.1},
}


def test_a_regression_per_kind(tmp_path):
    content = {"device": "Pi 4", "threads": 4, "coefficients": REGRESSION}
    device = load_device(write(tmp_path / "pi.json", content))
    # conv1 reads the input's 7 bytes; fc4 would take -82 s
    np.testing.assert_allclose(device.seconds(network()), [1 + 7 + 0.5, 2, 2, 0])
    assert device == RegressionDevice("pi", REGRESSION, {"device": "Pi 4", "threads": "4"})
    assert pickle.loads(pickle.dumps(device)) == device
    assert len({device, device.scaled(2), device.scaled(2)}) == 2
    blocks = SimpleNamespace(
        full=None, name="b", n_layers=2, layers=network(), block_of=np.array([0, 0, 1, 1])
    )
    np.testing.assert_allclose(device.seconds(blocks), [10.5, 2])


def test_a_regression_repeats_a_roofline_sum():
    device = load_device("odroid-xu4")
    per_byte = dict.fromkeys(
        ("parameter_bytes", "input_bytes", "output_bytes"), 1 / device.memory_bytes_per_s
    )
    speeds = device.throughput_flops_per_s
    same = RegressionDevice(
        "same",
        {
            kind: per_byte | {"flops": 1 / v, "constant": device.overhead_s}
            for kind, v in speeds.items()
        },
    )
    for dnn in (ALEXNET, MOBILENET):
        np.testing.assert_allclose(same.seconds(dnn), device.seconds(dnn))


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ({"conv": {}}, "coefficients of 'r': no 'depthwise_conv', no 'other', but"),
        ({"other": {"flops": 1e308}}, "coefficients of 'r' make infinite seconds of 'toy'"),
        ({"other": {"flops": 1e308, "output_bytes": -1e308}}, "make infinite seconds of 'toy'"),
    ],
)
def test_a_regression_must_fit_the_dnn(coefficients, message):
    with pytest.raises(ValueError, match=message):
        RegressionDevice("r", coefficients).seconds(network())


PAGE = (Path(__file__).parents[1] / "docs" / "devices.md").read_text("utf-8")


def test_the_pages_files_can_be_read_and_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix in ("csv", "json"):
        for text in re.findall(rf"```{suffix}\n(.*?)```", PAGE, re.DOTALL):
            assert load_device(write(tmp_path / f"a.{suffix}", text)).labels["device"] == "Pixel 6"
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for code in blocks:
        exec(compile(code, "devices.md", "exec"), {})


def test_the_test_networks_have_the_published_size():
    assert VGG16.flops.sum() / 2e9 == pytest.approx(15.47, rel=0.01)
    assert VGG16.parameter_bytes.sum() / 4e6 == pytest.approx(138.36, rel=1e-4)
    assert MOBILENET.flops.sum() / 2e9 == pytest.approx(0.569, rel=0.01)
    assert ALEXNET.parameter_bytes.sum() / 4e6 == pytest.approx(60.97, rel=1e-3)


# Published batch-1 milliseconds; the sources are in docs/devices.md.
PUBLISHED = [
    ("odroid-xu4", ALEXNET, 821.7, 0.05),
    ("odroid-xu4", MOBILENET, 679.7, 0.05),
    ("raspberry-pi-4", ALEXNET, 76.4, 0.3),
    ("raspberry-pi-4", VGG16, 547.1, 0.3),
    ("raspberry-pi-4", MOBILENET, 61.2, 0.3),
    ("phone-cpu", ALEXNET, 65.5, 0.35),
    ("phone-cpu", VGG16, 394.1, 0.35),
    ("phone-cpu", MOBILENET, 37.3, 0.35),
    ("jetson-nano", ALEXNET, 74.1, 0.25),
    ("jetson-nano", VGG16, 310.4, 0.25),
    ("jetson-nano", MOBILENET, 16.1, 0.25),
    ("server-cpu", ALEXNET, 4.89, 0.25),
    ("server-cpu", VGG16, 37.0, 0.25),
    ("server-cpu", MOBILENET, 3.17, 0.25),
    ("server-gpu", ALEXNET, 1.64, 0.25),
    ("server-gpu-v100", ALEXNET, 1.33, 0.35),
    ("server-gpu-v100", VGG16, 2.98, 0.35),
    ("server-gpu-v100", MOBILENET, 1.05, 0.35),
]


@pytest.mark.parametrize(("name", "dnn", "published_ms", "tolerance"), PUBLISHED)
def test_named_devices_are_near_the_published_latencies(name, dnn, published_ms, tolerance):
    total_ms = load_device(name).seconds(dnn).sum() * 1e3
    assert total_ms == pytest.approx(published_ms, rel=tolerance)


@pytest.mark.parametrize("name", device_names())
def test_named_devices_have_the_known_order_of_kinds(name):
    device = load_device(name)

    def effective(dnn, kind):
        chosen = np.array([k == kind for k in dnn.kinds])
        return dnn.flops[chosen].sum() / device.seconds(dnn)[chosen].sum()

    assert effective(MOBILENET, "depthwise_conv") < effective(MOBILENET, "conv") / 5
    assert effective(VGG16, "linear") < effective(VGG16, "conv") / 5
