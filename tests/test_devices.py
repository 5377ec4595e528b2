import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from mjoa_gym.devices import (
    FlopsDevice,
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
    return SimpleNamespace(**(fields | changes))


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
    blocks = SimpleNamespace(name="toy", n_layers=2, layers=layers, block_of=np.array([0, 1, 1, 1]))
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
        (lambda: FlopsDevice("", 1.0), "name: got ''; allowed: a non-empty string"),
        (lambda: FlopsDevice("f", 0.0), "flops_per_s: got 0.0; allowed: a finite number > 0"),
        (lambda: FlopsDevice("f", float("nan")), "flops_per_s: got nan"),
        (lambda: FlopsDevice("f", "1"), "flops_per_s: got '1'"),
        (lambda: FlopsDevice("f", 1.0, -1.0), "overhead_s: got -1.0; allowed: .* >= 0"),
        (lambda: RooflineDevice("r", {}, 1.0), "throughput_flops_per_s: got none"),
        (lambda: RooflineDevice("r", {"other": 1, "gemm": 1}, 1.0), "got 'gemm'; allowed: conv, "),
        (lambda: RooflineDevice("r", {"other": -1.0}, 1.0), r"\['other'\]: got -1.0"),
        (lambda: RooflineDevice("r", {"other": 1.0}, 0.0), "memory_bytes_per_s: got 0.0"),
        (lambda: RooflineDevice("r", {"other": 1.0}, 1.0, combine="mean"), "allowed: max, sum"),
        (lambda: TableDevice("t", {"toy": {"a": -1.0}}), "dnn 'toy', layer 'a': got -1.0"),
        (lambda: TableDevice("t", {}, {"colour": "red"}), "labels: got 'colour'; allowed: device,"),
        (lambda: FlopsDevice("f", 1.0).scaled(0), "speed: got 0"),
        (lambda: load_device("abacus"), "got 'abacus'; allowed: .*raspberry-pi-4"),
    ],
)
def test_errors_name_field_value_and_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def write(path, text):
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
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
    with pytest.raises(ValueError, match=r"dnn .*got 'vgg16'; allowed: other, toy"):
        device.seconds(VGG16)


def test_a_table_of_layers_serves_the_blocks(tmp_path):
    device = load_device(write(tmp_path / "pi.json", {"tables": {"toy": [4, 3, 2, 1]}}))
    blocks = SimpleNamespace(
        name="toy-blocks", n_layers=2, layers=network(), block_of=np.array([0, 0, 1, 1])
    )
    np.testing.assert_array_equal(device.seconds(blocks), [7, 3])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([1, 2, 3], "layers of table 't', dnn 'toy': got 3; allowed: 4"),
        ({"conv1": 1, "dw2": 1, "relu3": 1, "fc5": 1}, "got 'fc5'; allowed: conv1, dw2"),
    ],
)
def test_a_table_must_fit_the_dnn(tmp_path, table, message):
    device = load_device(write(tmp_path / "t.json", {"tables": {"toy": table}}))
    with pytest.raises(ValueError, match=message):
        device.seconds(network())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", {}, "allowed: an object with tables"),
        ("t.json", {"tables": {}, "cores": 4}, "got 'cores'; allowed: name, device"),
        ("t.json", {"tables": {"toy": 3}}, r"tables\['toy'\].*got 3; allowed: list or object"),
        ("t.json", {"tables": {"toy": [float("nan")]}}, "layer '0': got nan"),
        ("t.json", {"tables": {"toy": ["fast"]}}, "layer '0': got 'fast'"),
        ("t.csv", "", "columns of .*got none; allowed: at least dnn, layer, seconds"),
        ("t.csv", "dnn,layer\n", "columns of .*got dnn, layer; allowed"),
        ("t.csv", "dnn,layer,seconds,ms\n", "got 'ms'; allowed: dnn, layer, seconds, device"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,quick\n", "line 2.: got 'quick'; allowed"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,-1\n", "layer '0': got -1.0; allowed"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,nan\n", "layer '0': got nan; allowed"),
        ("t.csv", "dnn,layer,seconds\ntoy,0\n", "line 2: got too many or too few"),
        ("t.csv", "dnn,layer,seconds\ntoy,0,1\ntoy,0,1\n", "line 3.: got '0' again"),
        ("t.csv", "dnn,layer,seconds,date\ntoy,0,1,a\ntoy,1,1,b\n", "line 3.: got 'b'; allowed: a"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        load_device(write(tmp_path / name, text))


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
