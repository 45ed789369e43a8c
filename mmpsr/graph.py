"""Graph layers over the complete graph of a clip's present modalities.

On the n present nodes the symmetrically normalised adjacency without self loops is A = (J - I) / (n - 1), with
eigenvalue 1 on their mean and -1/(n - 1) on deviations from it. A spectral filter is therefore one masked mean and two
scalars per clip: no edge list and no loop over clips.

Shape suffixes: B clips, M modalities (nodes), H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GAT", "UCGNN", "NoGraph", "create_graph", "masked_mean"]


def masked_mean(nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
    """Mean over present nodes, `[B, M, H] -> [B, H]`; zero where none is present.

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    weights_BM1 = mask_BM.to(nodes_BMH.dtype).unsqueeze(-1)
    return (nodes_BMH * weights_BM1).sum(dim=1) / weights_BM1.sum(dim=1).clamp(min=1)


class UCGNN(nn.Module):
    """Unitary graph convolution, ReLU(exp(iA) X W + b), in closed form.

    The width is read as H/2 complex numbers: Y = X W^T has halves R and I. With theta = 1/(n - 1), S the sum over
    present nodes, b_r = (cos 1 - cos theta)/n and b_i = (sin 1 + sin theta)/n:

        R' = cos(theta) R + sin(theta) I + b_r S_R - b_i S_I
        I' = cos(theta) I - sin(theta) R + b_r S_I + b_i S_R

    Missing nodes, and clips with fewer than two, keep R and I (exp(0) = 1).

    Args:
        width: H, even.
        dropout: rate after the activation; the published system used 0.2 whatever the model's own dropout.

    Raises:
        ValueError: the width is odd.

    References:
        Kiani, Fesser, Weber: Unitary convolutions for learning on graphs and groups. NeurIPS 2024.
    """

    def __init__(self, width: int, dropout: float = 0.2) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"UCGNN needs an even width, for pairs of real and imaginary parts; found {width}")
        self.linear = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)

    def propagate(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """exp(iA) applied to nodes whose halves are real and imaginary parts, `[B, M, H] -> [B, M, H]`."""
        real, imaginary = nodes_BMH.chunk(2, dim=-1)
        present = mask_BM.to(nodes_BMH.dtype).unsqueeze(-1)
        count = present.sum(dim=1, keepdim=True)
        active = present * (count >= 2)
        theta = 1.0 / (count - 1).clamp(min=1)
        cos = torch.where(active > 0, torch.cos(theta), 1.0)
        sin = torch.where(active > 0, torch.sin(theta), 0.0)
        shared_real = active * (torch.cos(torch.ones_like(theta)) - torch.cos(theta)) / count.clamp(min=1)
        shared_imaginary = active * (torch.sin(torch.ones_like(theta)) + torch.sin(theta)) / count.clamp(min=1)
        sum_real = (real * present).sum(dim=1, keepdim=True)
        sum_imaginary = (imaginary * present).sum(dim=1, keepdim=True)
        new_real = cos * real + sin * imaginary + shared_real * sum_real - shared_imaginary * sum_imaginary
        new_imaginary = cos * imaginary - sin * real + shared_real * sum_imaginary + shared_imaginary * sum_real
        return torch.cat([new_real, new_imaginary], dim=-1)

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """`[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`."""
        mixed = self.propagate(self.linear(nodes_BMH), mask_BM)
        return self.dropout(torch.relu(mixed + self.bias))


class GAT(nn.Module):
    """Graph attention with one head: h = X W, alpha_ij = softmax_j LeakyReLU(a1.h_i + a2.h_j), out = alpha h.

    The softmax runs over present j, i itself included. Scores are two dot products and a broadcast addition; H^2 + 2H
    parameters.

    Args:
        width: H.
        negative_slope: slope of the leaky ReLU.

    References:
        Veličković et al.: Graph attention networks. ICLR 2018.
    """

    def __init__(self, width: int, negative_slope: float = 0.2) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.target = nn.Parameter(torch.empty(width))
        self.source = nn.Parameter(torch.empty(width))
        self.negative_slope = negative_slope
        nn.init.xavier_uniform_(self.linear.weight)
        for vector in (self.target, self.source):
            nn.init.xavier_uniform_(vector.data.unsqueeze(0))

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """`[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`; zero where no modality is present."""
        hidden = self.linear(nodes_BMH)
        scores_BMM = (hidden @ self.target).unsqueeze(2) + (hidden @ self.source).unsqueeze(1)
        scores_BMM = functional.leaky_relu(scores_BMM, self.negative_slope)
        return masked_softmax(scores_BMM, mask_BM.unsqueeze(1)) @ hidden


class NoGraph(nn.Module):
    """The switched-off graph layer: nodes pass unchanged."""

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Return the nodes."""
        return nodes_BMH


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where `mask` (broadcast) is true; zeros where nothing is.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))
        tensor([[1., 0.],
                [0., 0.]])
    """
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(filled, dim=-1) * mask.to(scores.dtype)


def create_graph(kind: str, width: int, dropout: float) -> nn.Module:
    """The graph layer named `ucgnn`, `gat` or `none`."""
    match kind:
        case "ucgnn":
            return UCGNN(width, dropout)
        case "gat":
            return GAT(width)
        case "none":
            return NoGraph()
    raise ValueError(f"no graph layer is named {kind!r}; known are ucgnn, gat, none")
