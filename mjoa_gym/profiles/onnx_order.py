"""Names of an ONNX graph's nodes, and the order in which they can run."""

from __future__ import annotations

import heapq
from collections.abc import Container

from onnx import NodeProto

OWN_DOMAINS = ("", "ai.onnx")


def op_of(node: NodeProto) -> str:
    """The operator, with its domain in front if that is not ONNX's own."""
    return node.op_type if node.domain in OWN_DOMAINS else f"{node.domain}.{node.op_type}"


def title(node: NodeProto) -> str:
    """What to call the node: its name, or its outputs."""
    return node.name or ", ".join(name for name in node.output if name) or node.op_type


def _reads(node: NodeProto) -> set[str]:
    """All names that the node reads, or a graph inside it from outside."""
    inner: set[str] = set()
    made: set[str] = set()
    stack = [node]
    while stack:
        for attribute in stack.pop().attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                stack.extend(graph.node)
                inner.update(info.name for info in graph.output)
                for nested in graph.node:
                    inner.update(nested.input)
                    made.update(nested.output)
                made.update(tensor.name for tensor in graph.initializer)
    return {*node.input, *(inner - made)}


def in_order(nodes: list[NodeProto], known: Container[str]) -> list[NodeProto]:
    """The nodes so that each comes after those it reads, otherwise as they are."""
    maker: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.output:
            if name and (name in maker or name in known):
                raise ValueError(f"tensor {name!r} is made twice")
            if name:
                maker[name] = index
    sources = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    waiting = [len(read) for read in sources]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, read in enumerate(sources):
        for source in read:
            readers[source].append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    ordered: list[NodeProto] = []
    while ready:
        index = heapq.heappop(ready)
        ordered.append(nodes[index])
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                heapq.heappush(ready, reader)
    if len(ordered) != len(nodes):
        stuck = next(node for node, count in zip(nodes, waiting, strict=True) if count)
        raise ValueError(f"the graph has a cycle through or before node {title(stuck)!r}")
    return ordered
