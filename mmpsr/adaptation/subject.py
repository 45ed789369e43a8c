"""Adaptation by subjects: source people are aligned with each other first, and sure pseudo-labels join in.

N target rows, B rows of a batch, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.adaptation.base import AdaptationConfig, Source, SubjectConfig, Target
from mmpsr.adaptation.loops import balanced_rows, begin_training, cosine_rate, set_rate, sgd, take_step
from mmpsr.adaptation.mmd import Mmd, mmd
from mmpsr.adaptation.network import AdaptedNetwork, FeatureNetwork

__all__ = ["REFUSED", "SubjectBased", "acceptance_threshold", "accepted_labels", "accepted_term"]

REFUSED = -1
"""Stands for the pseudo-label of a row that has none."""


def acceptance_threshold(config: SubjectConfig, epoch: int) -> float:
    """Give the score above which pseudo-labels are accepted in an epoch, counted from 0.

        tau_e = tau - lowered * floor(e / every)

    Example:
        >>> [round(acceptance_threshold(SubjectConfig(), epoch), 2) for epoch in (0, 3, 4, 8, 9)]
        [0.95, 0.95, 0.93, 0.91, 0.91]
    """
    return config.threshold - config.lowered * (epoch // config.every)


def accepted_labels(first_NC: Tensor, second_NC: Tensor | None, threshold: float, must_agree: bool = True) -> Tensor:
    """Choose pseudo-labels of which both views together are sure (ACPL).

        score = (max_c p_c + max_c q_c) / 2,   accepted if score > tau,   label of the view that is surer

    Args:
        first_NC: probabilities p of the rows.
        second_NC: probabilities q of their second view; None for one view alone, whose score is max_c p_c.
        threshold: tau.
        must_agree: accept only where both views name the same class.

    Returns:
        int64 `[N]`, `REFUSED` where none is accepted.

    References:
        Zeeshan, Aslam, Belharbi, Koerich, Pedersoli, Bacon, Granger: Subject-based domain adaptation for facial
        expression recognition. FG 2024.

    Example:
        >>> first = torch.tensor([[0.99, 0.01], [0.02, 0.98], [0.40, 0.60]])
        >>> accepted_labels(first, torch.tensor([[0.97, 0.03], [0.97, 0.03], [0.30, 0.70]]), 0.95).tolist()
        [0, -1, -1]
    """
    score, label = first_NC.max(dim=1)
    accepted = score > threshold
    if second_NC is not None:
        other, other_label = second_NC.max(dim=1)
        accepted = (score + other) / 2 > threshold
        if must_agree:
            accepted &= label == other_label
        label = torch.where(other > score, other_label, label)
    return torch.where(accepted, label, REFUSED)


def accepted_term(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Average the cross-entropy over rows with a pseudo-label; 0 where no row has one."""
    total = functional.cross_entropy(logits_BC, labels_B, ignore_index=REFUSED, reduction="sum")
    return total / (labels_B != REFUSED).sum().clamp(min=1)


class SubjectBased(Mmd):
    """Aligns source people with each other, then each target person with them.

        first:   L = cross-entropy(two source people) + MMD^2(z_one, z_other)
        second:  L = cross-entropy(source) + MMD^2(z_source, z_target) + 0.01 cross-entropy(target, pseudo-labels)

    Pseudo-labels are those of `accepted_labels` over all target rows, in evaluation mode, made anew at epochs 0, 4, 8;
    a row that was refused can be accepted later. The second view is the mirrored picture's vector where it is stored.

    References:
        Zeeshan, Aslam, Belharbi, Koerich, Pedersoli, Bacon, Granger: Subject-based domain adaptation for facial
        expression recognition. FG 2024.
    """

    def __init__(self, config: AdaptationConfig) -> None:
        super().__init__(config)
        self.labels = torch.empty(0, dtype=torch.int64)
        """Pseudo-labels of the target rows."""

    def prepare(self, network: AdaptedNetwork, source: Source, generator: torch.Generator) -> None:
        """Take the first stage's steps; an epoch has as many as two batches go into the source rows.

        With a single person there is nothing to align, and the network stays.
        """
        own, own_stage = self.config.with_source, self.config.subject
        labels, subjects = source.labels.cpu(), source.subjects.cpu()
        optimizer = sgd(network, own, nesterov=False)
        schedule = own.model_copy(update={"num_epochs": own_stage.num_epochs})
        for epoch in range(own_stage.num_epochs):
            set_rate(optimizer, cosine_rate(schedule, epoch))
            rows = balanced_rows(labels, generator, self.config.source.balanced)
            by_subject = [rows[subjects[rows] == subject] for subject in subjects[rows].unique()]
            by_subject = [part for part in by_subject if len(part) > 1]
            if len(by_subject) < 2:
                continue
            begin_training(network, self.config)
            for _ in range(max(1, len(rows) // (2 * own.batch_size))):
                pair = torch.randperm(len(by_subject), generator=generator)[:2].tolist()
                one, other = (_some(by_subject[index], own.batch_size, generator) for index in pair)
                both = torch.cat([one, other])
                embedded = network.embed(source.features[both])
                discrepancy = mmd(embedded[: len(one)], embedded[len(one) :])
                loss = functional.cross_entropy(network.classifier(embedded), source.labels[both])
                loss = loss + own.mmd_weight * (discrepancy.detach() if own.detached else discrepancy)
                take_step(optimizer, loss)
        network.eval()

    def begin_epoch(self, network: AdaptedNetwork, target: Target, epoch: int, generator: torch.Generator) -> None:
        """Renew the pseudo-labels where it is time."""
        own = self.config.subject
        if epoch % own.every:
            return
        _, first = network.outputs(target.features)
        second = None
        if target.mirrored is not None:
            _, second = network.outputs(target.mirrored)
        elif own.view_noise:
            assert isinstance(network, FeatureNetwork)  # pictures can be mirrored
            assert isinstance(target.features, Tensor)
            noise = torch.randn(target.features.shape, generator=generator).to(target.features)
            _, second = network.outputs(target.features + own.view_noise * noise * network.standardizer.std)
        self.labels = accepted_labels(first, second, acceptance_threshold(own, epoch), own.views_must_agree)

    def target_term(self, logits_TC: Tensor, rows_T: Tensor) -> Tensor:
        """Give the weighted cross-entropy of the batch's pseudo-labels."""
        return self.config.subject.pseudo_weight * accepted_term(logits_TC, self.labels[rows_T])


def _some(rows_N: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return rows_N[torch.randperm(len(rows_N), generator=generator)[:size]]
