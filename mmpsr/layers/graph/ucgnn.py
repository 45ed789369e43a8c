"""Unitary graph convolutions over the complete graph of a clip's present modalities.

Shape suffixes: B clips, M modalities (nodes), H hidden width, K numbers of neighbours (1 to M - 1).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mmpsr.layers.dropout import Dropout
from mmpsr.layers.nodes import masked_mean
from mmpsr.layers.recorded import Linear, per_clip

__all__ = ["UCGNN", "LieUCGNN", "group_sort"]


def group_sort(inputs: Tensor) -> Tensor:
    """Sort the pairs (x_j, x_{j + H/2}) of the last dimension, larger first: an activation that keeps norms.

        y_j = max(x_j, x_{j + H/2}),  y_{j + H/2} = min(x_j, x_{j + H/2})

    References:
        Anil, Lucas, Grosse: Sorting out Lipschitz function approximation. ICML 2019.

    Example:
        >>> group_sort(torch.tensor([1.0, 2.0, 3.0, 0.0]))
        tensor([3., 2., 1., 0.])
    """
    first, second = inputs.chunk(2, dim=-1)
    return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], dim=-1)


ACTIVATIONS = {"relu": torch.relu, "groupsort": group_sort}


class UCGNN(nn.Module):
    """Unitary graph convolution, act(exp(iA) X W + b), in closed form.

    The width is read as H/2 complex numbers: Y = X W^T has halves R and I. With theta = 1/(n - 1), S the sum over
    present nodes, b_r = (cos 1 - cos theta)/n and b_i = (sin 1 + sin theta)/n:

        R' = cos(theta) R + sin(theta) I + b_r S_R - b_i S_I
        I' = cos(theta) I - sin(theta) R + b_r S_I + b_i S_R

    Missing nodes, and clips with fewer than two, keep R and I (exp(0) = 1). H^2 + H parameters; beside the product
    with W the cost is two sums over the nodes. With an orthogonal W and sorting, the layer starts as one that keeps
    the norm of a clip's nodes.

    Args:
        width: H, even.
        dropout: rate after the activation; the published system used 0.2 whatever the model's own dropout.
        activation: `relu`, or `groupsort`, which sorts each real part with its imaginary part.
        orthogonal: start W as a random orthogonal matrix.

    Raises:
        ValueError: the width is odd.

    References:
        Kiani, Fesser, Weber: Unitary convolutions for learning on graphs and groups. NeurIPS 2024.
    """

    def __init__(
        self,
        width: int,
        dropout: float = 0.2,
        activation: Literal["relu", "groupsort"] = "relu",
        orthogonal: bool = False,
    ) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"UCGNN needs an even width, for pairs of real and imaginary parts; found {width}")
        self.linear = Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))
        self.dropout = Dropout(dropout)
        self.activation = ACTIVATIONS[activation]
        if orthogonal:
            nn.init.orthogonal_(self.linear.weight)

    def propagate(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Apply exp(iA) to nodes whose halves are real and imaginary parts, `[B, M, H] -> [B, M, H]`."""
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

    def mix(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Apply the layer before bias and activation, `[B, M, H] -> [B, M, H]`."""
        return self.propagate(self.linear(nodes_BMH), mask_BM)

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Map `[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`."""
        mixed_BMH = self.mix(nodes_BMH, mask_BM) + per_clip(self.bias, nodes_BMH.shape[0]).unsqueeze(1)
        return self.dropout(self.activation(mixed_BMH))


class LieUCGNN(UCGNN):
    """Orthogonal graph convolution by the exponential map.

        out = act(exp(g)(X) + b),  g(X) = A X S,  S = (W - W^T)/2

    Present nodes of a clip with at least two become (x_i - mean) e^{-S/(n - 1)} + mean e^S, all others keep x_i
    (A = 0); the map keeps the norm of a clip's nodes. H^2 + H parameters. The exponentials for every n up to M are
    powers of one, e^{S/lcm(1, ..., M - 1)}, so that a batch of any size costs one matrix exponential of width H, and
    backward one of width 2H (about 0.5 s a step at H = 512 on one core); at M = 6 the powers are exact to about 2e-5
    in single precision.

    W enters through the exponential, so what a clip contributes to its gradient cannot be kept: `undeferrable` tells a
    training step to use ordinary backward passes for a model that holds this layer. torch's matrix exponential also
    looks at its matrix's norm, so that on an accelerator every pass waits once for the device.

    Args and errors are those of `UCGNN`.

    References:
        Kiani, Fesser, Weber: Unitary convolutions for learning on graphs and groups. NeurIPS 2024.
    """

    undeferrable: ClassVar[bool] = True

    def exponentials(self, num_nodes: int) -> Tensor:
        """Compute e^S, and e^{-S/k} for k = 1, ..., M - 1, `[M, H, H]`."""
        weight = self.linear.weight
        common = math.lcm(*range(1, num_nodes))
        # Single precision throughout: a product in half precision would not stay orthogonal.
        with torch.autocast(weight.device.type, enabled=False):
            root = torch.matrix_exp((weight - weight.T) / (2 * common))
            # S is skew, so that the transposed root is e^{-S/lcm}.
            inverses = [torch.matrix_power(root.T, common // k) for k in range(1, num_nodes)]
            return torch.stack([torch.matrix_power(root, common), *inverses])

    def mix(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Apply exp(g) to nodes, `[B, M, H] -> [B, M, H]`."""
        num_nodes = nodes_BMH.shape[1]
        exponentials_MHH = self.exponentials(num_nodes)
        count_B1 = mask_BM.sum(dim=1, keepdim=True)
        active_BM1 = (mask_BM & (count_B1 >= 2)).unsqueeze(-1)
        mean_B1H = masked_mean(nodes_BMH, mask_BM).unsqueeze(1)
        onehot_BK = count_B1 - 1 == torch.arange(1, num_nodes, device=nodes_BMH.device)
        deviations_BMKH = (nodes_BMH - mean_B1H).unsqueeze(2) * onehot_BK[:, None, :, None].to(nodes_BMH.dtype)
        turned_BMH = torch.einsum("bmkh,khg->bmg", deviations_BMKH, exponentials_MHH[1:])
        return torch.where(active_BM1, mean_B1H @ exponentials_MHH[0] + turned_BMH, nodes_BMH)
