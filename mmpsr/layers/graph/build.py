"""Graph layers over the complete graph of a clip's present modalities.

On the n present nodes the symmetrically normalised adjacency without self loops is A = (J - I) / (n - 1), with
eigenvalue 1 on their mean and -1/(n - 1) on deviations from it. A spectral filter is therefore one masked mean and two
scalars per clip: no edge list and no loop over clips.

Every layer takes nodes `[B, M, H]` and a bool presence `[B, M]` and gives `[B, M, H]`. What stands in an absent node
never reaches a present one, and what a layer gives for an absent node means nothing.

Shape suffixes: B clips, M modalities (nodes), H hidden width.
"""

from __future__ import annotations

from torch import Tensor, nn

from mmpsr.layers.graph.config import PREFIX, GraphConfig
from mmpsr.layers.graph.edgnn import EDGNN
from mmpsr.layers.graph.gat import GAT
from mmpsr.layers.graph.hgnn import HGNN
from mmpsr.layers.graph.ncgnn import NCGNN
from mmpsr.layers.graph.pyg import Convolution
from mmpsr.layers.graph.ucgnn import UCGNN, LieUCGNN

__all__ = ["NoGraph", "create_graph"]


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
