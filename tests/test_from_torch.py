"""Small modules whose operators, layers, costs and bytes are known by hand."""

from __future__ import annotations

import pytest

from mjoa_gym.dnn import DNN

torch = pytest.importorskip("torch", reason="needs torch")
nn = torch.nn

from torch.utils._pytree import tree_leaves  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from mjoa_gym.profiles.fuse import fuse  # noqa: E402
from mjoa_gym.profiles.graph import UnknownOperatorWarning  # noqa: E402
from mjoa_gym.profiles.torch_export import trace  # noqa: E402
from tests import torch_networks as networks  # noqa: E402

torch.set_num_threads(1)


def layers_of(module, *shape, dtype=None, device="meta"):
    example = torch.zeros(shape, dtype=dtype, device=device)
    return fuse(trace(module.to(device), (example,)).graph)


def summary(layers):
    return [(layer.kind, layer.flops, layer.predecessors) for layer in layers]


def build(forward, **modules):
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            for name, module in modules.items():
                setattr(self, name, module)

        def forward(self, x):
            return forward(self, x)

    return Module()


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_convolution_with_norm_and_activation_is_one_layer(device):
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
    ).train()
    (layer,) = layers_of(module, 1, 3, 4, 4, device=device)
    assert module.training
    assert (layer.name, layer.kind, layer.predecessors) == ("0", "conv", (-1,))
    assert layer.flops == 2 * 27 * 8 * 16
    assert layer.parameter_bytes == 4 * (27 * 8 + 16)  # no running statistics
    assert layer.output_bytes == 4 * 8 * 16


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_attention_is_counted_on_every_device(device):
    def forward(self, x):
        q, k, v = self.project(x).chunk(3, dim=-1)
        return nn.functional.scaled_dot_product_attention(q, k, v)

    project, attend = layers_of(build(forward, project=nn.Linear(4, 12)), 1, 5, 4, device=device)
    assert (project.kind, project.flops) == ("matmul", 2 * 5 * 4 * 12)
    assert project.output_bytes == 4 * 5 * 12  # three views, one tensor
    assert (attend.kind, attend.flops) == ("matmul", 2 * 2 * 5 * 5 * 4)
    assert attend.predecessors == (0,)


def test_one_row_is_a_matrix_vector_product():
    assert layers_of(nn.Linear(4, 2), 1, 4)[0].kind == "linear"
    assert layers_of(nn.Linear(4, 2), 3, 4)[0].kind == "matmul"


def test_depthwise_and_grouped_convolutions():
    depthwise, grouped = layers_of(
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3, groups=2)), 1, 4, 6, 6
    )
    assert (depthwise.kind, depthwise.flops) == ("depthwise_conv", 2 * 9 * 4 * 16)
    assert (grouped.kind, grouped.flops) == ("conv", 2 * 9 * 2 * 8 * 4)


def test_residual_sum_is_its_own_layer_with_two_inputs():
    module = build(
        lambda self, x: torch.relu(self.b(self.a(x)) + x), a=nn.Linear(4, 4), b=nn.Linear(4, 4)
    )
    assert summary(layers_of(module, 1, 4)) == [
        ("linear", 32, (-1,)),
        ("linear", 32, (0,)),
        ("elementwise", 8, (-1, 1)),
    ]


def test_norm_in_front_of_a_branch_joins_its_heavy_reader():
    def forward(self, x):
        x = self.a(x)
        return x + self.b(self.norm(x))

    module = build(forward, a=nn.Linear(4, 4), norm=nn.LayerNorm(4), b=nn.Linear(4, 4))
    layers = layers_of(module, 1, 4)
    assert [layer.name for layer in layers] == ["a", "b", "add"]
    assert layers[1].parameter_bytes == 4 * (8 + 20)


def test_handwritten_activation_joins_its_producer():
    def forward(self, x):
        x = self.a(x)
        return self.b(x * torch.sigmoid(x))

    module = build(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    assert [layer.name for layer in layers_of(module, 1, 4)] == ["a", "b"]


def test_enlarging_operators_join_their_reader():
    module = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Upsample(scale_factor=2), nn.ZeroPad2d(1), nn.Conv2d(4, 2, 3)
    )
    first, second = layers_of(module, 1, 3, 5, 5)
    assert first.output_bytes == 4 * 4 * 25
    assert second.flops == 2 * 9 * 4 * 2 * 100


def test_shared_weight_is_charged_to_the_user_that_computes_most():
    head = nn.Linear(3, 7, bias=False)
    embed = nn.Embedding(7, 3)
    head.weight = embed.weight
    graph = trace(
        build(lambda self, x: self.head(self.embed(x)), embed=embed, head=head),
        (torch.zeros(1, 2, dtype=torch.int64),),
    ).graph
    assert graph.input_bytes == 16
    assert [layer.parameter_bytes for layer in fuse(graph)] == [0, 84]
    assert sum(operator.parameter_bytes for operator in graph.operators) == 4 * 21


def test_constants_are_folded_and_charged_to_their_reader():
    def forward(self, x):
        return self.a(x) + self.table(torch.arange(4, device=x.device)).sum(0)

    (layer,) = layers_of(build(forward, a=nn.Linear(3, 2), table=nn.Embedding(4, 2)), 1, 3)
    assert layer.parameter_bytes == 4 * (8 + 8)


def test_only_the_part_that_is_read_is_sent():
    module = build(
        lambda self, x: self.b(self.a(x)[:, 0].expand(6, 4)), a=nn.Linear(3, 4), b=nn.Linear(4, 1)
    )
    assert layers_of(module, 1, 5, 3)[0].output_bytes == 4 * 4


def test_an_output_that_is_read_again_gets_a_sink():
    def forward(self, x):
        hidden = torch.relu(self.a(x))
        return hidden, self.b(hidden)

    layers = layers_of(build(forward, a=nn.Linear(3, 4), b=nn.Linear(4, 2)), 1, 3)
    assert summary(layers) == [
        ("linear", 24, (-1,)),
        ("linear", 16, (0,)),
        ("elementwise", 0, (0,)),
    ]
    assert layers[2].name == "output"
    assert layers[2].output_bytes == layers[0].output_bytes == 16


def test_unused_parts_are_left_out():
    def forward(self, x):
        self.b(x)
        return self.a(x)

    (layer,) = layers_of(build(forward, a=nn.Linear(3, 4), b=nn.Linear(3, 4)), 1, 3)
    assert layer.parameter_bytes == 64


def test_in_place_operators_change_what_later_readers_see():
    def forward(self, x):
        x = self.a(x)
        x.relu_()
        return self.b(x)

    module = build(forward, a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    graph = trace(module, (torch.zeros(1, 3),)).graph
    assert [operator.name for operator in graph.operators] == ["a", "relu", "b"]
    assert graph.operators[2].inputs == (1,)


def test_recurrent_network_is_counted():
    layers = layers_of(build(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(3, 4)), 5, 1, 3)
    assert sum(layer.flops for layer in layers) == 2 * 5 * (3 * 16 + 4 * 16)
    assert sum(layer.parameter_bytes for layer in layers) == 4 * (3 * 16 + 4 * 16 + 32)


HEAVY = ("conv", "depthwise_conv", "linear", "matmul")


def heavy_flops(dnn: DNN) -> float:
    return sum(f for f, kind in zip(dnn.flops, dnn.kinds, strict=True) if kind in HEAVY)


@pytest.mark.parametrize("name", networks.NAMES)
def test_totals_are_those_of_an_independent_count(name):
    module, example = networks.build(name, device="meta")
    dnn = DNN.from_torch(module, example)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**example) if isinstance(example, dict) else module(*example)
    extra = 2 * 5 * 4 * 4 if name == "two_inputs" else 0  # the counter knows no bilinear layer
    assert heavy_flops(dnn) == counter.get_total_flops() + extra
    assert dnn.flops.sum() >= heavy_flops(dnn)
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    assert dnn.parameter_bytes.sum() == size
    tensors = [leaf for leaf in tree_leaves(example) if isinstance(leaf, torch.Tensor)]
    assert dnn.input_bytes == sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("name", ["resnet_like", "dictionary"])
def test_device_and_weights_do_not_matter(name):
    module, example = networks.build(name)
    on_cpu = DNN.from_torch(module, example, name="net")
    meta, meta_example = networks.build(name, device="meta")
    assert DNN.from_torch(meta, meta_example, name="net") == on_cpu
    assert DNN.from_torch(meta, example, name="net") == on_cpu
    assert DNN.from_torch(module, meta_example, name="net") == on_cpu


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_recurrent_layers_cost_what_their_formula_says(kind, gates, device):
    steps, batch, inputs, hidden = 6, 2, 5, 3
    rnn = getattr(nn, kind)(inputs, hidden, num_layers=2, bidirectional=True).to(device)
    dnn = DNN.from_torch(rnn, torch.zeros(steps, batch, inputs, device=device))
    first = inputs * hidden + hidden * hidden
    second = 2 * hidden * hidden + hidden * hidden
    assert dnn.flops.sum() == 2 * 2 * steps * batch * gates * (first + second)


def test_products_that_the_counter_does_not_know():
    def forward(self, x):
        weighted = self.weight.mv(x)
        return torch.dot(weighted, weighted) + torch.cdist(x[None], x[None]).sum()

    module = build(forward)
    module.weight = nn.Parameter(torch.zeros(4, 5, device="meta"))
    dnn = DNN.from_torch(module, torch.zeros(5, device="meta"))
    assert heavy_flops(dnn) == 2 * 4 * 5 + 2 * 4 + 2 * 5


def test_what_is_computed_from_parameters_alone_is_counted_once():
    def forward(self, x):
        table = self.table(torch.ones(3, 4, device=x.device))
        return self.a(x) + table, table.sum() + x

    dnn = DNN.from_torch(
        build(forward, a=nn.Linear(3, 2), table=nn.Linear(4, 2)), torch.zeros(1, 3), name="t"
    )
    assert dnn.parameter_bytes.sum() == 4 * (8 + 10)
    assert heavy_flops(dnn) == 2 * (3 * 2) + 2 * (3 * 4 * 2)


def test_an_operator_of_unknown_cost_is_reported_and_free():
    module = build(
        lambda self, x: self.b(torch.fft.fft(self.a(x)).real), a=nn.Linear(4, 4), b=nn.Linear(4, 2)
    )
    with pytest.warns(UnknownOperatorWarning, match="aten.fft_fft.default") as caught:
        dnn = DNN.from_torch(module, torch.zeros(1, 4))
    assert [warning.filename for warning in caught] == [__file__]
    unknown = dnn.kinds.index("other")
    assert dnn.flops[unknown] == 0
    assert heavy_flops(dnn) == 2 * (16 + 8)


def test_input_forms():
    module, example = nn.Linear(3, 2), torch.zeros(1, 3)
    forms = [example, (example,), [example], {"input": example}]
    assert len({DNN.from_torch(module, form).layer_names for form in forms}) == 1


def test_name_and_granularity():
    module, example = networks.build("googlenet_like")
    assert DNN.from_torch(module, example).name == "Inception"
    layers = DNN.from_torch(module, example, name="mine")
    blocks = DNN.from_torch(module, example, granularity="block", name="mine")
    assert blocks == layers.blocks()
    assert blocks.n_layers < layers.n_layers
    with pytest.raises(ValueError, match="granularity='tensor'"):
        DNN.from_torch(module, example, granularity="tensor")
