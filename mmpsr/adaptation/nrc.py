"""NRC: a row should be classified as its neighbours are, and most of all as those whose neighbour it is itself.

B rows of a batch, N of all target rows, H width of the bottleneck, C classes, K neighbours, M neighbours of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mmpsr.adaptation.base import AfterEpoch, Method, NrcConfig, Places, Source, Target
from mmpsr.adaptation.loops import batches, begin_training, falling_rate, set_rate, sgd, take_step
from mmpsr.adaptation.network import AdaptedNetwork
from mmpsr.adaptation.shot import EPSILON

__all__ = ["Neighbors", "Nrc", "find_neighbors", "neighbor_term"]


@dataclass(frozen=True)
class Neighbors:
    """Neighbours of rows, and theirs.

    Attributes:
        first: int64, nearest rows of each row.
        second: int64, nearest rows of each of these.
        first_weights: 1 where the neighbourhood is mutual, `far_weight` where it is not, 0 where there is no such row.
        second_weights: `far_weight`, 0 where there is no such row.
    """

    first: Tensor
    second: Tensor
    first_weights: Tensor
    second_weights: Tensor


def find_neighbors(rows_B: Tensor, bank_NH: Tensor, config: NrcConfig, places: Places | None = None) -> Neighbors:
    """Find neighbours by the dot product of unit features, a row itself left out by its number.

        w_k = 1 if row i is one of the M nearest of its k-th neighbour, else 0.1

    The row itself stays among the neighbours of its neighbours. Equal vectors, as of a picture that was repeated, are
    neighbours of each other like any.

    Args:
        rows_B: numbers of the rows.
        bank_NH: unit features of all rows.
        config: K, M, the weight, and the gap in time.
        places: of the rows; needed where `min_gap` is not 0.

    Raises:
        ValueError: a gap is asked for, and it is not known when rows are.

    References:
        Yang, Wang, van de Weijer, Herranz, Jui: Exploiting the intrinsic neighborhood structure for source-free domain
        adaptation. NeurIPS 2021.
    """
    if config.min_gap and places is None:
        raise ValueError("nrc.min_gap needs the video and the seconds of every row; leave it out, or give places")

    def nearest(of: Tensor, number: int) -> tuple[Tensor, Tensor]:
        taken = of.unsqueeze(1) == torch.arange(len(bank_NH), device=of.device)
        if config.min_gap and places is not None:
            taken |= places.near(of, config.min_gap)
        similarity = (bank_NH[of] @ bank_NH.T).masked_fill(taken, -torch.inf)
        value, found = similarity.topk(min(number, len(bank_NH)), dim=1)
        return found, torch.isfinite(value)

    first, is_first = nearest(rows_B, config.num_neighbors)
    second, is_second = (part.view(*first.shape, -1) for part in nearest(first.flatten(), config.num_second))
    mutual = ((second == rows_B.view(-1, 1, 1)) & is_second).any(dim=2)
    weights = torch.where(mutual, 1.0, config.far_weight) * is_first
    return Neighbors(first, second, weights, config.far_weight * (is_second & is_first.unsqueeze(2)))


def neighbor_term(probabilities_BC: Tensor, scores_NC: Tensor, neighbors: Neighbors) -> Tensor:
    """Compute the loss of a batch.

        L = -mean_i [sum_k w_k p_i . S_k + 0.1 sum_k sum_m p_i . S_km] + sum_c pbar_c log(pbar_c + 1e-5)

    with S the stored probabilities, which have no gradient, and pbar = mean_i p_i.

    Args:
        probabilities_BC: p of the batch.
        scores_NC: S of all rows.
        neighbors: of the batch's rows.
    """
    p = probabilities_BC.unsqueeze(1)
    first = (neighbors.first_weights * (p * scores_NC[neighbors.first]).sum(dim=2)).sum(dim=1)
    agreement = (p.unsqueeze(1) * scores_NC[neighbors.second]).sum(dim=3)
    second = (neighbors.second_weights * agreement).sum(dim=(1, 2))
    mean_C = probabilities_BC.mean(dim=0)
    return -(first + second).mean() + (mean_C * (mean_C + EPSILON).log()).sum()


class Nrc(Method):
    """Neighbourhood reciprocity clustering: no source row is read, and everything is trained.

        L = -mean_i [sum_k w_k p_i . S_k + 0.1 sum_k sum_m p_i . S_km] + sum_c pbar_c log(pbar_c + 1e-5)

    Unit features and probabilities S of all rows are kept in a bank, filled in evaluation mode; a batch's rows are
    renewed in it before their neighbours are searched, see `find_neighbors` and `neighbor_term`.

    References:
        Yang, Wang, van de Weijer, Herranz, Jui: Exploiting the intrinsic neighborhood structure for source-free domain
        adaptation. NeurIPS 2021.
    """

    def adapt(
        self,
        network: AdaptedNetwork,
        target: Target,
        source: Source | None,
        generator: torch.Generator,
        after_epoch: AfterEpoch,
    ) -> None:
        """Take its steps; see `Method.adapt`."""
        own = self.config.source_free
        optimizer, step = sgd(network, own, nesterov=True), 0
        features, scores = network.outputs(target.features)
        bank = functional.normalize(features, dim=1)
        for epoch in range(own.num_epochs):
            dealt = batches(torch.arange(len(target)), own.batch_size, generator)
            begin_training(network, self.config)
            for rows in (batch.to(bank.device) for batch in dealt):
                set_rate(optimizer, falling_rate(own.lr, step, own.num_epochs * len(dealt)))
                embedded = network.embed(target.features[rows])
                probabilities = network.classifier(embedded).softmax(dim=1)
                bank[rows] = functional.normalize(embedded.detach(), dim=1)
                scores[rows] = probabilities.detach()
                neighbors = find_neighbors(rows, bank, self.config.nrc, target.places)
                loss = neighbor_term(probabilities, scores, neighbors)
                take_step(optimizer, loss)
                step += 1
            network.eval()
            after_epoch(epoch + 1)
