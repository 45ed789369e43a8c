"""A hyperbolic partial differential equation on the complete graph of a clip's present modalities.

Shape suffixes: B clips, M modalities (nodes), H hidden width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmpsr.layers.nodes import spectral_filter
from mmpsr.layers.recorded import Linear

__all__ = ["HGNN"]


class HGNN(nn.Module):
    """The wave equation X'' = A X from X(0) = phi0(x) and X'(0) = phi1(x), after k steps of dt, in closed form.

    The steps X_1 = dt phi1 + (I + dt^2 A/2) phi0 and X_{j+1} = (2I + dt^2 A) X_j - X_{j-1} are the recursion of
    Chebyshev polynomials in Y = I + dt^2 A/2:

        X_k = T_k(Y) phi0 + dt U_{k-1}(Y) phi1

    A has two eigenvalues on a clip's n present nodes, so that T_k and U_{k-1} are two numbers each: on the mean y =
    1 + dt^2/2 = cosh(u), with T_k = cosh(k u) and U_{k-1} = sinh(k u)/sinh(u); on deviations from it y =
    1 - dt^2/(2(n - 1)) = cos(v), with cos(k v) and sin(k v)/sin(v). The mean grows like cosh(k dt): keep k dt near 1.
    Missing nodes, and clips with fewer than two, have A = 0: X_k = phi0 + k dt phi1.

    2(H^2 + H) parameters; beside two linear maps the cost is two sums over the nodes, whatever the number of steps.

    Args:
        width: H.
        num_steps: k, at least 1.
        step_size: dt, between 0 and 2, where deviations begin to grow without bound.

    References:
        Yue et al.: Hyperbolic-PDE GNN: spectral graph neural networks in the perspective of a system of hyperbolic
        partial differential equations. ICML 2025.
    """

    def __init__(self, width: int, num_steps: int = 4, step_size: float = 0.25) -> None:
        super().__init__()
        self.position = Linear(width, width)
        self.velocity = Linear(width, width)
        self.num_steps = num_steps
        self.step_size = step_size

    def forward(self, nodes_BMH: Tensor, mask_BM: Tensor) -> Tensor:
        """Map `[B, M, H]` nodes and bool `[B, M]` presence to `[B, M, H]`."""
        steps, size = self.num_steps, self.step_size
        position_BMH, velocity_BMH = self.position(nodes_BMH), size * self.velocity(nodes_BMH)
        # 1 + 2 sinh^2(u/2) = cosh(u) and 1 - 2 sin^2(v/2) = cos(v): no digits are lost for small steps.
        mean_angle = 2 * math.asinh(size / 2)
        neighbours_B11 = (mask_BM.sum(dim=1) - 1).clamp(min=1).to(nodes_BMH.dtype)[:, None, None]
        angle_B11 = 2 * torch.asin(size / 2 * neighbours_B11.rsqrt())
        from_position = spectral_filter(
            position_BMH, mask_BM, math.cosh(steps * mean_angle), torch.cos(steps * angle_B11), 1.0
        )
        from_velocity = spectral_filter(
            velocity_BMH,
            mask_BM,
            math.sinh(steps * mean_angle) / math.sinh(mean_angle),
            torch.sin(steps * angle_B11) / torch.sin(angle_B11),
            steps,
        )
        return from_position + from_velocity
