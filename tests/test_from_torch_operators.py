"""Operators that hold others (control flow) or do the work of several (fused products)."""

from __future__ import annotations

import pytest

from mjoa_gym.dnn import DNN

torch = pytest.importorskip("torch", reason="needs torch")
nn = torch.nn

from torch._higher_order_ops import map as torch_map  # noqa: E402
from torch._higher_order_ops import scan, while_loop  # noqa: E402
from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from mjoa_gym.execution.layered_model import LayeredModel  # noqa: E402
from mjoa_gym.profiles.graph import UnknownOperatorWarning  # noqa: E402

torch.set_num_threads(1)
aten = torch.ops.aten


class Net(nn.Module):
    """Three linear layers, and a forward() to choose."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(3))
        self.way = forward

    def forward(self, *inputs):
        return self.way(self, *inputs)


def profile(forward, *inputs, device="cpu"):
    return DNN.from_torch(
        Net(forward).to(device), tuple(each.to(device) for each in inputs), name="net"
    )


def branch(self, x):
    return torch.cond(x.sum() > 0, self.b, lambda x: self.c(x).relu(), (x,))


def nested(self, x):
    def twice(x):
        return torch.cond(x.mean() > 1, lambda x: self.c(self.b(x)), self.b, (x,))

    return torch.cond(x.sum() > 0, self.a, twice, (x,))


def trees(self, x):
    parts = torch.cond(
        x.sum() > 0,
        lambda x: {"u": self.b(x), "v": x.relu()},
        lambda x: {"u": x.clone(), "v": self.c(self.b(x))},
        (x,),
    )
    return parts["u"] + parts["v"]


ROW = 2 * 8 * 8
"""FLOPs of a linear layer on one row."""
CONTROL_FLOW = {
    "cond": (branch, "linear", ROW, 2),
    "nested": (nested, "linear", 2 * ROW, 3),
    "trees": (trees, "linear", 2 * ROW, 2),
    "light": (
        lambda self, x: torch.cond(x.sum() > 0, torch.sin, torch.clone, (x,)),
        "elementwise",
        8,
        0,
    ),
    "norm": (
        lambda self, x: torch.cond(x.sum() > 0, lambda x: x.softmax(-1), torch.sin, (x,)),
        "norm",
        5 * 8,
        0,
    ),
    "map": (lambda self, x: torch_map(self.b, x.expand(4, 3, 8)), "matmul", 4 * 3 * ROW, 1),
    "scan": (
        lambda self, x: scan(
            lambda c, r: (torch.tanh(self.b(c) + self.c(r)), c.clone()), x, x.expand(5, 1, 8)
        )[0],
        "linear",
        5 * 2 * ROW,
        2,
    ),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("what", CONTROL_FLOW)
def test_control_flow_costs_its_dearer_branch_and_every_turn(what, device):
    forward, kind, flops, linears = CONTROL_FLOW[what]
    dnn = profile(forward, torch.zeros(1, 8), device=device)
    (layer,) = (n for n, name in enumerate(dnn.layer_names) if name in ("cond", "map_impl", "scan"))
    assert dnn.flops[layer] == flops
    assert dnn.kinds[layer] == kind
    assert dnn.parameter_bytes[layer] == linears * 4 * (64 + 8)  # both branches may be needed


def test_a_branch_between_two_linear_layers():
    dnn = profile(lambda self, x: branch(self, self.a(x)), torch.zeros(1, 8))
    assert dnn.kinds == ("linear", "pool", "linear")
    assert dnn.flops.sum() == ROW + 8 + 1 + ROW  # the sum, the comparison with it
    assert dnn.parameter_bytes.sum() == 3 * 4 * (64 + 8)


def test_a_branch_inside_a_submodule():
    inner = Net(branch)
    dnn = DNN.from_torch(nn.Sequential(nn.Linear(8, 8), inner), torch.zeros(1, 8), name="net")
    assert dnn.flops.sum() == 2 * ROW + 9


def test_unknown_operators_in_branches_are_reported():
    with pytest.warns(UnknownOperatorWarning, match=r"known: aten.linalg_inv.default$"):
        dnn = profile(
            lambda self, x: torch.cond(
                x.sum() > 0, lambda x: torch.linalg.inv(x).contiguous(), torch.sin, (x,)
            ),
            torch.zeros(8, 8),
        )
    assert dnn.flops[-1] == 64


REFUSED = {
    "while_loop": (
        lambda self, x: while_loop(
            lambda i, x: i < 5, lambda i, x: (i + 1, self.b(x)), (torch.zeros((), dtype=int), x)
        )[1],
        "while_loop repeats its body for as long as",
    ),
    "loop in a branch": (
        lambda self, x: torch.cond(
            x.sum() > 0,
            lambda x: while_loop(lambda x: x.sum() < 5, lambda x: (x + 1,), (x,))[0],
            torch.sin,
            (x,),
        ),
        "while_loop repeats its body for as long as",
    ),
    "size": (
        lambda self, x: torch.cond(x.sum() > 0, lambda x: x[x > 0].sum(), torch.sum, (x,)),
        "the size of what aten.index.Tensor makes depends on the values",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_control_flow_of_unknown_cost_is_refused(what):
    forward, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        profile(forward, torch.zeros(1, 8))


@torch.no_grad()
@pytest.mark.parametrize("sign", [1, -1])
def test_control_flow_and_flexible_attention_run_layer_by_layer(sign):
    def forward(self, x):
        x = branch(self, self.a(x))
        x = flex_attention(x, x, x, score_mod=lambda score, b, h, i, j: score + self.b.bias[h])
        return torch_map(self.c, x[0])

    module, x = Net(forward), sign * torch.randn(1, 2, 16, 8)
    model = LayeredModel.from_torch(module, x)
    bundles = {-1: model.inputs(x)}
    for layer in range(model.dnn.n_layers):
        bundles[layer] = model.run(layer, bundles, model.needed_parameters(layer))
    torch.testing.assert_close(model.outputs(bundles), module(x))


def zeros(*shape, dtype=torch.bfloat16):
    return torch.zeros(shape, dtype=dtype)


QKV = (zeros(2, 4, 16, 8, dtype=torch.float32),) * 3
BY_ROWS = (zeros(2, 16, 4, 8),) * 3
FEWER_KEYS = (QKV[0], *(zeros(2, 2, 16, 8, dtype=torch.float32),) * 2)
BYTES = {"dtype": torch.int8}
FLOAT8 = {"dtype": torch.float8_e4m3fn}
ENDS = torch.tensor([4, 8, 12, 16], dtype=torch.int32)
ONE = torch.ones(1)


def causal(self, q, k, v):
    mask = create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 16, 16, device=q.device)
    return flex_attention(q, k, v, block_mask=mask)


ATTENTION = 2 * 2 * (2 * 4) * 16 * 16 * 8
FUSED = {
    "plain attention": (lambda self, *qkv: scaled_dot_product_attention(*qkv), QKV, ATTENTION),
    "flexible": (lambda self, *qkv: flex_attention(*qkv), QKV, ATTENTION),
    "block mask": (causal, QKV, ATTENTION),
    "shared keys": (
        lambda self, *qkv: flex_attention(*qkv, enable_gqa=True),
        FEWER_KEYS,
        ATTENTION,
    ),
    "flash on the cpu": (
        lambda self, *qkv: aten._scaled_dot_product_flash_attention_for_cpu(*qkv)[0],
        QKV,
        ATTENTION,
    ),
    "flash": (
        lambda self, *qkv: aten._flash_attention_forward(
            *qkv, None, None, 16, 16, 0.0, False, False
        )[0],
        BY_ROWS,
        ATTENTION,
    ),
    "efficient": (
        lambda self, *qkv: aten._efficient_attention_forward(
            *qkv, None, None, None, None, None, 0.0, 0
        )[0],
        BY_ROWS,
        ATTENTION,
    ),
    "grouped rows": (
        lambda self, a, b, ends: torch._grouped_mm(a, b, offs=ends),
        (zeros(16, 32), zeros(4, 32, 48), ENDS),
        2 * 16 * 32 * 48,
    ),
    "grouped, public": (
        lambda self, a, b, ends: nn.functional.grouped_mm(a, b, offs=ends),
        (zeros(16, 32), zeros(4, 32, 48), ENDS),
        2 * 16 * 32 * 48,
    ),
    "grouped, a matrix each": (
        lambda self, a, b: torch._grouped_mm(a, b),
        (zeros(4, 16, 32), zeros(4, 32, 48)),
        2 * 4 * 16 * 32 * 48,
    ),
    "grouped inner sides": (
        lambda self, a, b, ends: torch._grouped_mm(a, b, offs=ends),
        (zeros(24, 16), zeros(16, 48), ENDS),
        2 * 24 * 16 * 48,
    ),
    "grouped columns": (
        lambda self, a, b, ends: torch._grouped_mm(a, b, offs=ends),
        (zeros(4, 24, 32), zeros(32, 16), ENDS),
        2 * 24 * 32 * 16,
    ),
    "grouped float8": (
        lambda self, a, b, s, t, ends: aten._scaled_grouped_mm(a, b.mT, s, t, ends),
        (
            zeros(16, 32, **FLOAT8),
            zeros(4, 48, 32, **FLOAT8),
            torch.ones(16),
            torch.ones(4, 48),
            ENDS,
        ),
        2 * 16 * 32 * 48,
    ),
    "float8": (
        lambda self, a, b, s: torch._scaled_mm(a, b.t(), s, s, out_dtype=torch.bfloat16),
        (zeros(32, 32, **FLOAT8), zeros(64, 32, **FLOAT8), ONE),
        2 * 32 * 32 * 64,
    ),
    "int8": (
        lambda self, a, b: torch._int_mm(a, b),
        (zeros(32, 32, **BYTES), zeros(32, 64, **BYTES)),
        2 * 32 * 32 * 64,
    ),
    "int8 with a wider result": (
        lambda self, a, b: torch.ops.higher_order.out_dtype(aten.mm.default, torch.int32, a, b),
        (zeros(32, 32, **BYTES), zeros(32, 64, **BYTES)),
        2 * 32 * 32 * 64,
    ),
    "int8 weights": (
        lambda self, a, b, scales: torch._weight_int8pack_mm(a, b, scales),
        (zeros(32, 32), zeros(64, 32, **BYTES), zeros(64)),
        2 * 32 * 32 * 64,
    ),
    "int4 weights": (
        lambda self, a, b, scales: aten._weight_int4pack_mm_for_cpu(a, b, 32, scales),
        (zeros(16, 64), zeros(32, 32, dtype=torch.uint8), zeros(2, 32, 2)),
        2 * 16 * 64 * 32,
    ),
    "with an activation": (
        lambda self, a, b: torch._addmm_activation(a[0], a, b),
        (zeros(16, 32), zeros(32, 32)),
        2 * 16 * 32 * 32,
    ),
    "summed products": (
        lambda self, a, b: torch.addbmm(a[0, :, :8], a, b),
        (zeros(4, 8, 32), zeros(4, 32, 8)),
        2 * 4 * 8 * 32 * 8,
    ),
    "rows with rows": (lambda self, a: torch.linalg.vecdot(a, a), (zeros(5, 3),), 2 * 5 * 3),
}


@pytest.mark.parametrize("what", FUSED)
def test_fused_operators_cost_what_plain_ones_do(what):
    forward, inputs, flops = FUSED[what]
    dnn = profile(forward, *inputs)
    assert dnn.flops.sum() == flops
    assert set(dnn.kinds) == {"matmul"}


def test_grouped_products_of_other_libraries_count():
    library = torch.library.Library("mjoa_test", "DEF")
    library.define("grouped_mm_fallback(Tensor input, Tensor weight, Tensor offs) -> Tensor")
    library.impl(
        "grouped_mm_fallback",
        lambda a, b, offs: a.new_empty(len(a), b.shape[-1]),
        "CompositeExplicitAutograd",
    )
    dnn = profile(
        lambda self, *given: torch.ops.mjoa_test.grouped_mm_fallback(*given),
        zeros(16, 32, dtype=torch.float32),
        zeros(4, 32, 48, dtype=torch.float32),
        ENDS,
    )
    assert dnn.flops.tolist() == [2 * 16 * 32 * 48]


def test_quantised_products_with_one_row_are_bound_by_their_weights():
    dnn = profile(
        lambda self, a, b: torch._int_mm(a, b), zeros(1, 32, **BYTES), zeros(32, 64, **BYTES)
    )
    assert dnn.kinds == ("linear",)


@pytest.mark.parametrize(
    "given", [(torch.zeros(2, 5, dtype=int),), (torch.zeros(10, dtype=int), torch.tensor([0, 4]))]
)
def test_bags_of_embeddings_add_up_what_they_look_up(given):
    dnn = DNN.from_torch(nn.EmbeddingBag(20, 8), given)
    assert (dnn.kinds, dnn.flops.tolist()) == (("embedding",), [10 * 8])


@pytest.mark.parametrize(
    "forward", [lambda self, x: 1 - x, lambda self, x: torch.outer(x[0], x[0])]
)
def test_light_operators_that_were_not_known(forward):
    assert profile(forward, torch.zeros(1, 4)).flops.sum() in (4, 16)


EMPTY = {
    "batch": (nn.Linear(8, 8), torch.zeros(0, 8), r"example_inputs has shape \(0, 8\)"),
    "second": (
        nn.Bilinear(8, 8, 8),
        (torch.zeros(0, 8), torch.zeros(0, 8)),
        r"example_inputs\[0\] has shape \(0, 8\), \[1\] has shape \(0, 8\): is empty",
    ),
    "keyword": (
        nn.Linear(8, 8),
        {"input": torch.zeros(0, 8)},
        r"example_inputs\['input'\] has shape",
    ),
    "inside": (
        Net(lambda self, x, more: self.a(x) + self.b(more["y"][0])),
        (torch.zeros(1, 8), {"y": [torch.zeros(0, 8)]}),
        r"example_inputs\[1\]\['y'\]\[0\] has shape",
    ),
    "tokens": (
        nn.Embedding(9, 8),
        torch.zeros(1, 0, dtype=int),
        r"shape \(1, 0\): is empty, every side must",
    ),
    "steps": (nn.LSTM(8, 8), torch.zeros(0, 1, 8), r"has shape \(0, 1, 8\)"),
    "image": (nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 0, 8), r"has shape \(1, 3, 0, 8\)"),
    "reshaped": (
        Net(lambda self, x: self.a(x.reshape(len(x), -1))),
        torch.zeros(0, 8),
        r"has shape \(0, 8\)",
    ),
    "light": (nn.ReLU(), torch.zeros(0, 8), r"has shape \(0, 8\)"),
    "reduced": (Net(lambda self, x: x.mean()), torch.zeros(0, 8), r"has shape \(0, 8\)"),
    "returned": (nn.Identity(), torch.zeros(0, 8), r"has shape \(0, 8\)"),
    "no columns": (Net(lambda self, x: x @ x.T), torch.zeros(2, 0), r"has shape \(2, 0\)"),
}


@pytest.mark.parametrize("what", EMPTY)
def test_an_empty_input_is_named(what):
    module, inputs, message = EMPTY[what]
    with pytest.raises(ValueError, match=message):
        DNN.from_torch(module, inputs)


def test_an_empty_cache_that_something_is_added_to_is_fine():
    def forward(self, x, cache):
        keys = torch.cat([cache, x], 1)
        return scaled_dot_product_attention(x, keys, keys)

    dnn = profile(forward, torch.zeros(1, 3, 8), torch.zeros(1, 0, 8))
    assert dnn.flops.sum() == 2 * 2 * 3 * 3 * 8


def test_an_empty_part_of_an_input_costs_nothing():
    dnn = profile(lambda self, x: self.a(x) + self.b(x[:0]).sum(), torch.zeros(1, 8))
    assert dnn.flops.sum() == ROW + 8


def test_what_does_not_run_on_the_device_is_said():
    with pytest.raises(ValueError, match=r"does not run on the device .*\n.*build it on the cpu"):
        profile(FUSED["flexible"][0], *QKV, device="meta")
