"""Maximum mean discrepancy: source and target rows are drawn together in the bottleneck.

S source rows of a batch, T target rows, H width of the bottleneck.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.adaptation.base import AfterEpoch, Method, Source, Target
from mmpsr.adaptation.loops import balanced_rows, batches, begin_training, cosine_rate, set_rate, sgd, take_step
from mmpsr.adaptation.network import AdaptedNetwork

__all__ = ["Mmd", "mmd"]

_NUM_KERNELS = 5


def mmd(source_SH: Tensor, target_TH: Tensor) -> Tensor:
    """Estimate the squared maximum mean discrepancy of two samples under a sum of five Gaussian kernels.

        k(x, y) = sum_{i=0..4} exp(-|x - y|^2 / (2^i b)),   b = sum of all |x - y|^2 / (n^2 - n) / 4
        MMD^2 = mean K_ss + mean K_tt - 2 mean K_st

    with n = S + T, all pairs of the joint batch in b, which is taken without gradient, and the diagonals in the means.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf, Smola: A kernel two-sample test. JMLR 13, 2012.
        Long, Cao, Wang, Jordan: Learning transferable features with deep adaptation networks. ICML 2015.

    Example:
        >>> source, target = torch.tensor([[0.0, 0], [1, 0], [0, 1]]), torch.tensor([[2.0, 2], [3, 2]])
        >>> round(float(mmd(source, target)), 4)
        5.4961
    """
    joint = torch.cat([source_SH, target_TH])
    norms = joint.square().sum(dim=1)
    squared = (norms.unsqueeze(1) + norms.unsqueeze(0) - 2 * joint @ joint.T).clamp(min=0.0)  # of no [n, n, H] tensor
    num, num_source = len(joint), len(source_SH)
    width = (squared.detach().sum() / (num * num - num) / 4).clamp(min=torch.finfo(squared.dtype).tiny)
    kernel = torch.stack([torch.exp(-squared / (2.0**i * width)) for i in range(_NUM_KERNELS)]).sum(dim=0)
    own, across = kernel[:num_source, :num_source].mean(), kernel[:num_source, num_source:].mean()
    return own + kernel[num_source:, num_source:].mean() - 2 * across


class Mmd(Method):
    """Learns from source rows while it makes both domains alike.

        L = cross-entropy(source) + MMD^2(z_source, z_target)

    with z the bottleneck's outputs. Both halves of a batch pass BatchNorm together, so that a shift between them is not
    taken away before it is measured; this is ours.

    References:
        Long, Cao, Wang, Jordan: Learning transferable features with deep adaptation networks. ICML 2015.
        González-González et al.: BAH dataset for ambivalence/hesitancy recognition in videos for digital behavioural
        change. ICLR 2026.
    """

    uses_source = True

    def adapt(
        self,
        network: AdaptedNetwork,
        target: Target,
        source: Source | None,
        generator: torch.Generator,
        after_epoch: AfterEpoch,
    ) -> None:
        """Take its steps; see `Method.adapt`."""
        if source is None:
            raise TypeError(f"{type(self).__name__} reads source rows, and was given none")
        own, labels = self.config.with_source, source.labels.cpu()
        optimizer = sgd(network, own, nesterov=False)
        for epoch in range(own.num_epochs):
            set_rate(optimizer, cosine_rate(own, epoch))
            self.begin_epoch(network, target, epoch, generator)
            of_source = balanced_rows(labels, generator, self.config.source.balanced)
            begin_training(network, self.config)
            for source_rows, target_rows in zip(
                batches(of_source, own.batch_size, generator),
                batches(torch.arange(len(target)), own.batch_size, generator),
                strict=False,  # an epoch ends with the shorter
            ):
                rows = torch.cat([source.features[source_rows], target.features[target_rows]])
                embedded = network.embed(rows)
                logits = network.classifier(embedded)
                num = len(source_rows)
                discrepancy = mmd(embedded[:num], embedded[num:])
                loss = functional.cross_entropy(logits[:num], source.labels[source_rows])
                loss = loss + own.mmd_weight * (discrepancy.detach() if own.detached else discrepancy)
                loss = loss + self.target_term(logits[num:], target_rows)
                take_step(optimizer, loss)
            network.eval()
            after_epoch(epoch + 1)

    def begin_epoch(self, network: AdaptedNetwork, target: Target, epoch: int, generator: torch.Generator) -> None:
        """Get ready for an epoch, counted from 0; nothing here."""

    def target_term(self, logits_TC: Tensor, rows_T: Tensor) -> Tensor:
        """Give what is added for target rows of a batch; nothing here."""
        return logits_TC.new_zeros(())
