"""What a DNN's graph, kinds and names must be; a ValueError names the layer and the value."""

from __future__ import annotations

from collections.abc import Sequence

from mjoa_gym.layers import INPUT, KINDS


def validated_predecessors(predecessors: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Predecessors that make a graph in program order, each layer reading something."""
    validated = []
    for layer, given in enumerate(predecessors):
        try:
            ps = tuple(int(p) for p in given)
            whole = all(p == q for p, q in zip(ps, given, strict=True))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"predecessors[{layer}]={given!r}: must be a list of indices"
            ) from error
        if not whole:
            raise ValueError(f"predecessors[{layer}]={list(given)}: indices must be whole numbers")
        if not ps:
            raise ValueError(
                f"predecessors[{layer}] is empty: layer {layer} is unreachable; every layer reads "
                "an earlier layer or the network's input (-1)"
            )
        for p in ps:
            if p < INPUT:
                raise ValueError(
                    f"predecessors[{layer}] has {p}: a DNN has one input tensor, -1; "
                    "merge several inputs into one"
                )
            if p >= layer:
                raise ValueError(
                    f"predecessors[{layer}] has {p}: allowed are earlier layers, -1..{layer - 1}"
                )
        if len(set(ps)) != len(ps):
            raise ValueError(f"predecessors[{layer}]={list(ps)} names a layer twice")
        validated.append(ps)
    return tuple(validated)


def validated_kinds(kinds: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """A kind per layer, "other" by default."""
    if kinds is None:
        return ("other",) * n
    if len(kinds) != n:
        raise ValueError(f"kinds has {len(kinds)} entries for {n} layers")
    for layer, kind in enumerate(kinds):
        if kind not in KINDS:
            raise ValueError(f"kinds[{layer}]={kind!r}: allowed are {list(KINDS)}")
    return tuple(kinds)


def validated_names(names: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """A name per layer, its number by default."""
    if names is None:
        return tuple(str(layer) for layer in range(n))
    if len(names) != n:
        raise ValueError(f"layer_names has {len(names)} entries for {n} layers")
    return tuple(str(name) for name in names)
