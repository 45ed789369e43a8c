"""Nodes and presence for tests of graph layers, and the layers by name."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from mmpsr.layers.graph.build import create_graph
from mmpsr.layers.graph.config import GraphConfig

LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("ucgnn", {}),
    ("ucgnn", {"activation": "groupsort", "orthogonal": True}),
    ("ucgnn", {"form": "lie"}),
    ("gat", {}),
    ("edgnn", {"alpha": 0.3}),
    ("edgnn", {"self_loop": False}),
    ("hgnn", {}),
    ("ncgnn", {"inner_width": 6, "walk_length": 3}),
    ("ncgnn", {"num_walks": 3, "walk_length": 5}),
    ("none", {}),
    ("pyg:GATv2Conv", {"heads": 4}),
    ("pyg:GCNConv", {}),
    ("pyg:SAGEConv", {"aggr": "max"}),
    ("pyg:TransformerConv", {"heads": 2, "concat": False}),
    ("pyg:GINConv", {"train_eps": True}),
]


def label(value: object) -> str:
    return "-".join(f"{name}={setting}" for name, setting in value.items()) if isinstance(value, dict) else str(value)


def all_masks(num_nodes: int) -> Tensor:
    """Every subset of the nodes, `[2^M, M]`."""
    return torch.tensor(list(itertools.product([False, True], repeat=num_nodes)))


def uniform(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Values in [-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).mul(2).sub(1).to(dtype)


def normalized_adjacency(mask_M: Tensor) -> Tensor:
    """D^{-1/2} (J - I) D^{-1/2} of the complete graph on the present nodes, zero elsewhere, `[M, M]`."""
    present = mask_M.double()
    edges = torch.outer(present, present) * (1 - torch.eye(len(mask_M), dtype=torch.float64))
    scale = edges.sum(dim=1).clamp(min=1).rsqrt()
    return scale[:, None] * edges * scale


def config_of(kind: str, options: dict[str, Any]) -> GraphConfig:
    return GraphConfig.model_validate(GraphConfig.of_kind(kind, options))


def create(kind: str, options: dict[str, Any], width: int = 8, num_nodes: int = 4, dropout: float = 0.0) -> nn.Module:
    """A layer in double precision whose every parameter matters: no biases of zero, no angles alike."""
    torch.manual_seed(0)
    layer = create_graph(kind, width, dropout, num_nodes, config_of(kind, options)).double()
    for name, parameter in layer.named_parameters():
        if name == "bias" or (name.startswith("conv.") and name.endswith("bias")):
            nn.init.normal_(parameter, std=0.3)
        if name == "theta":
            nn.init.uniform_(parameter, 0.2, 1.3)
    return layer.eval()
