"""What graph layers can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from mmpsr.config import Config

__all__ = ["PREFIX", "GraphConfig"]

PREFIX = "pyg:"
"""What a class of `torch_geometric.nn` is named with."""


class GraphConfig(Config):
    """Options of the graph layers; each names the layer that reads it."""

    form: Literal["unitary", "lie"] = "unitary"
    """ucgnn: complex form exp(iA) X W, or real form exp of A X (W - W^T)/2, which costs matrix exponentials."""
    orthogonal: bool = False
    """ucgnn: start W as a random orthogonal matrix."""
    activation: Literal["relu", "groupsort"] = "relu"
    """ucgnn: activation; groupsort sorts pairs of channels and keeps norms."""
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)
    """edgnn: share of messages along the edges; the rest comes against them."""
    self_loop: bool = True
    """edgnn: add a linear map of the node itself, without which a lone modality becomes a constant."""
    steps: int = Field(default=4, ge=1)
    """hgnn: number of time steps."""
    step_size: float = Field(default=0.25, gt=0.0, lt=2.0)
    """hgnn: length of a time step; keep steps times it near 1, since the mean grows with the time."""
    walk_length: int = Field(default=4, ge=2)
    """ncgnn: nodes of a random walk, its start included."""
    num_walks: int = Field(default=4, ge=1)
    """ncgnn: walks drawn from each node."""
    inner_width: int | None = Field(default=None, ge=1)
    """ncgnn: width of the recurrent networks; that of a node where none is given."""
    pyg: dict[str, bool | int | float | str | list[bool | int | float | str] | None] = Field(default_factory=dict)
    """pyg: arguments of the class; what is written beside the other options is taken for one of them, too."""

    @classmethod
    def of_kind(cls, kind: Any, options: Any) -> Any:
        """Read the options as written for a layer: for a class of torch_geometric they are its arguments.

        Example:
            >>> GraphConfig.of_kind("pyg:GATv2Conv", {"heads": 4})
            {'pyg': {'heads': 4}}
        """
        is_class = isinstance(kind, str) and kind.startswith(PREFIX)
        is_written = isinstance(options, Mapping) and "pyg" not in options
        return {"pyg": dict(options)} if is_class and is_written else options
