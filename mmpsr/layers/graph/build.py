"""Graph layers over the complete graph of a clip's present modalities.

On the n present nodes the symmetrically normalised adjacency without self loops is A = (J - I) / (n - 1), with
eigenvalue 1 on their mean and -1/(n - 1) on deviations from it. A spectral filter is therefore one masked mean and two
scalars per clip: no edge list and no loop over clips.

Every layer takes nodes `[B, M, H]` and a bool presence `[B, M]` and gives `[B, M, H]`. What stands in an absent node
never reaches a present one, and what a layer gives for an absent node means nothing.

Shape suffixes: B clips, M modalities (nodes), H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from mmpsr.config import Config
from mmpsr.layers.graph.edgnn import EDGNN
from mmpsr.layers.graph.gat import GAT
from mmpsr.layers.graph.hgnn import HGNN
from mmpsr.layers.graph.ncgnn import NCGNN
from mmpsr.layers.graph.pyg import PREFIX, Convolution
from mmpsr.layers.graph.ucgnn import UCGNN, LieUCGNN

__all__ = ["GraphConfig", "NoGraph", "create_graph"]


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


class NoGraph(nn.Module):
    """The switched-off graph layer: nodes pass unchanged."""

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Return the nodes."""
        return nodes_BMH


def create_graph(
    kind: str, width: int, dropout: float, num_nodes: int = 0, options: GraphConfig | None = None
) -> nn.Module:
    """Create the graph layer of a name.

    Args:
        kind: `ucgnn`, `gat`, `edgnn`, `hgnn`, `ncgnn`, `none`, or `pyg:` and the name of a convolution of
            `torch_geometric.nn`.
        width: H.
        dropout: rate within `ucgnn` and `ncgnn`; the others have none.
        num_nodes: M, which `edgnn` and `ncgnn` need.
        options: of the layers.

    Raises:
        ValueError: no layer has the name, or the layer cannot have this width, number of nodes or these options.
    """
    options = options or GraphConfig()
    if kind.startswith(PREFIX):
        return Convolution(kind.removeprefix(PREFIX), width, options.pyg)
    match kind:
        case "ucgnn":
            layer = LieUCGNN if options.form == "lie" else UCGNN
            return layer(width, dropout, options.activation, options.orthogonal)
        case "gat":
            return GAT(width)
        case "edgnn":
            return EDGNN(width, num_nodes, options.alpha, options.self_loop)
        case "hgnn":
            return HGNN(width, options.steps, options.step_size)
        case "ncgnn":
            return NCGNN(width, num_nodes, options.walk_length, options.num_walks, options.inner_width, dropout)
        case "none":
            return NoGraph()
    raise ValueError(f"no graph layer is named {kind!r}; known are ucgnn, gat, edgnn, hgnn, ncgnn, none, "
                     f"and {PREFIX} with a convolution of torch_geometric.nn")  # fmt: skip
