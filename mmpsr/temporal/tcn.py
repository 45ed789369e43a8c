"""Temporal convolutions: what a frame may know of the frames before it.

Shape suffixes: B clips, T frames, D width, K channels of a block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.dropout import Dropout
from mmpsr.temporal.batch_norm import MaskedBatchNorm

__all__ = ["Branches", "TemporalBlock", "TemporalConvNet", "receptive_field"]


def receptive_field(num_blocks: int, kernel: int) -> int:
    """Count the frames that an output of a temporal convolutional network sees, its own and those before.

        1 + 2 (k - 1)(2^n - 1)

    for n blocks of two convolutions of kernel k, dilated by 1, 2, 4 ...

    Example:
        >>> receptive_field(4, 5), receptive_field(5, 5)
        (121, 249)
    """
    return 1 + 2 * (kernel - 1) * (2**num_blocks - 1)


class TemporalBlock(nn.Module):
    """Two dilated causal convolutions and a path around them.

        y = LeakyReLU(f(f(x)) + r(x)),   f(x) = dropout(LeakyReLU(W * x + b)),   W = g V / |V|

    `*` is a convolution that sees the frame itself and k - 1 earlier ones, d apart; before the first frame, and where
    there is no frame, stand zeros. r is the identity, or a convolution of kernel 1 where the widths differ. Slope 0.01.
    Parameters, i to o channels: o i k + 2 o + o^2 k + 2 o, and o i + o of r.

    Args:
        width: i.
        channels: o.
        kernel: k.
        dilation: d.
        dropout: rate after each convolution.
    """

    def __init__(self, width: int, channels: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.padding = (kernel - 1) * dilation
        self.first = weight_norm(nn.Conv1d(width, channels, kernel, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(channels, channels, kernel, dilation=dilation))
        self.dropout = Dropout(dropout)
        self.around: nn.Conv1d | None = None
        if width != channels:
            self.around = nn.Conv1d(width, channels, 1)
            nn.init.xavier_uniform_(self.around.weight, gain=2**0.5)

    def forward(self, values_BDT: Tensor, there_B1T: Tensor) -> Tensor:
        """Apply the block, `[B, D, T] -> [B, K, T]`.

        Args:
            values_BDT: zero where there is no frame.
            there_B1T: 1 where there is a frame, else 0, `[B, 1, T]`.
        """
        hidden_BKT = self._convolve(self.first, values_BDT) * there_B1T
        hidden_BKT = self._convolve(self.second, hidden_BKT)
        around_BKT = values_BDT if self.around is None else self.around(values_BDT)
        return functional.leaky_relu(hidden_BKT + around_BKT) * there_B1T

    def _convolve(self, convolution: nn.Module, values_BDT: Tensor) -> Tensor:
        output: Tensor = convolution(functional.pad(values_BDT, (self.padding, 0)))
        return self.dropout(functional.leaky_relu(output))


class TemporalConvNet(nn.Module):
    """Temporal blocks one after the other, dilated by 1, 2, 4 ...: a causal network over the frames of a clip.

        x_0 = x,   x_{i+1} = TemporalBlock_{2^i}(x_i)

    A frame sees `receptive_field` frames, none of them later than itself. 512 -> 256, 256, 128, 128 has 2,215,296
    parameters.

    Args:
        width: D, of the features.
        channels: of each block; the last is the width of the output.
        kernel: k.
        dropout: rate.

    References:
        Bai, Kolter, Koltun: An empirical evaluation of generic convolutional and recurrent networks for sequence
        modeling. 2018, arXiv:1803.01271.

    Example:
        >>> network = TemporalConvNet(6, (4, 3), kernel=5, dropout=0.0)
        >>> network(torch.randn(2, 30, 6), torch.ones(2, 30, dtype=torch.bool)).shape, network.receptive_field
        (torch.Size([2, 30, 3]), 25)
    """

    def __init__(self, width: int, channels: Sequence[int], kernel: int, dropout: float) -> None:
        super().__init__()
        widths = (width, *channels)
        self.blocks = nn.ModuleList(
            TemporalBlock(widths[index], widths[index + 1], kernel, 2**index, dropout) for index in range(len(channels))
        )
        self.receptive_field = receptive_field(len(channels), kernel)

    def forward(self, values_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """Apply the network, `[B, T, D] -> [B, T, K]`; zero outside the mask.

        Args:
            values_BTD: zero outside the mask.
            mask_BT: bool, which frames there are.
        """
        there_B1T = mask_BT.unsqueeze(1).to(values_BTD.dtype)
        hidden = values_BTD.transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden, there_B1T)
        return hidden.transpose(1, 2)


class Branches(nn.Module):
    """A temporal convolutional network and a batch normalisation for each modality.

        x_m = BN(TCN(f_m)),   0 where the modality is not there

    Args:
        widths: of the modalities' features.
        channels: of the modalities' blocks.
        kernel: of the convolutions.
        dropout: rate.
    """

    def __init__(
        self, widths: Mapping[str, int], channels: Mapping[str, Sequence[int]], kernel: int, dropout: float
    ) -> None:
        super().__init__()
        self.networks = ByModality(
            {name: TemporalConvNet(width, channels[name], kernel, dropout) for name, width in widths.items()}
        )
        self.norms = ByModality({name: MaskedBatchNorm(channels[name][-1]) for name in widths})
        self.widths = {name: channels[name][-1] for name in widths}
        self.receptive_field = max(receptive_field(len(channels[name]), kernel) for name in widths)

    def forward(self, values: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give x by modality, `[B, T, d_m]`.

        Args:
            values: features `[B, T, D_m]`, zero where the modality is not there.
            there: bool `[B, T]` by modality, at which frames it is.
        """
        encoded = {}
        for name, network in self.networks.items():
            x_BTD = self.norms[name](network(values[name], there[name]), there[name])
            encoded[name] = torch.where(there[name].unsqueeze(-1), x_BTD, 0.0)
        return encoded
