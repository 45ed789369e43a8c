"""ConflictAwareAH: modalities pooled by attention, what sets them apart as features, and an auxiliary head on the text.

Shape suffixes: B clips, L elements of a sequence, W elements of a window, M modalities, H hidden width, D width of a
modality's vectors or of its sequences' elements, F = H * (M + M(M - 1)/2) width of the fused features, C outputs of a
task.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import torch
from torch import Tensor, nn

from mmpsr.batch import Batch, Predictions
from mmpsr.config import ConfigError
from mmpsr.layers.by_modality import ByModality
from mmpsr.layers.dropout import Dropout
from mmpsr.layers.nodes import conflicts, masked_softmax
from mmpsr.layers.prototype_bank import Points
from mmpsr.layers.recorded import LayerNorm, Linear
from mmpsr.layers.standardizer import Standardizer
from mmpsr.models.base import FusionModel, Outputs, Shared, Tower, start_at_zero
from mmpsr.models.config import ConflictAwareConfig
from mmpsr.probabilities import mixture
from mmpsr.tasks import TaskSpec

__all__ = ["ConflictAware", "cut_windows"]


def cut_windows(values_BLD: Tensor, mask_BL: Tensor, size: int, places_B: Tensor) -> tuple[Tensor, Tensor]:
    """Cut consecutive elements of each sequence, of one with n > W elements those from floor(place * (n - W + 1)).

    Args:
        values_BLD: elements from the front.
        mask_BL: bool, which there are.
        size: W.
        places_B: in [0, 1), where among all windows of its sequence a clip's one lies.

    Returns:
        `[B, W, D]` and its mask; shorter sequences as they are.

    Example:
        >>> values, mask = torch.arange(4.0).view(1, 4, 1), torch.ones(1, 4, dtype=torch.bool)
        >>> cut_windows(values, mask, 2, torch.tensor([0.5]))[0].flatten().tolist()  # floor(0.5 * 3) = 1
        [1.0, 2.0]
    """
    spare_B = (mask_BL.sum(dim=1) - size).clamp(min=0)
    starts_B = (places_B * (spare_B + 1)).long().minimum(spare_B)
    index_BW = starts_B.unsqueeze(1) + torch.arange(size, device=mask_BL.device)
    inside_BW = index_BW < mask_BL.shape[1]
    index_BW = index_BW.clamp(max=mask_BL.shape[1] - 1)
    values_BWD = values_BLD.gather(1, index_BW.unsqueeze(-1).expand(-1, -1, values_BLD.shape[2]))
    return values_BWD, mask_BL.gather(1, index_BW) & inside_BW


def _head(width: int, head_width: int, outputs: int, dropout: float, from_zero: bool) -> nn.Sequential:
    head = nn.Sequential(
        LayerNorm(width), Linear(width, head_width), nn.GELU(), Dropout(dropout), Linear(head_width, outputs)
    )
    if from_zero:
        start_at_zero(head[4])
    return head


class ConflictTower(Tower):
    """A task's heads: LN -> Linear -> GELU -> dropout -> Linear, on the fused features and on one modality's alone.

    Args:
        spec: the task.
        config: widths and options.
        width: F.
        has_auxiliary: whether there is an auxiliary head.
        from_zero: whether the heads' last layers start at zero, beside a linear path.
    """

    def __init__(
        self, spec: TaskSpec, config: ConflictAwareConfig, width: int, has_auxiliary: bool, from_zero: bool
    ) -> None:
        super().__init__(spec, width)
        outputs = spec.num_outputs
        self.head = _head(width, config.head_width, outputs, config.dropout, from_zero)
        self.guide_head: nn.Sequential | None = None
        if has_auxiliary:
            self.guide_head = _head(config.hidden_width, config.head_width, outputs, config.dropout, from_zero)

    def forward(self, fused_BF: Tensor, auxiliary_BH: Tensor | None, offset_BC: Tensor | None) -> Outputs:
        """Predict by both heads, the second one where it is there."""
        auxiliary_BC = None
        if self.guide_head is not None and auxiliary_BH is not None:
            auxiliary_BC = self.finish(self.guide_head(auxiliary_BH), offset_BC)
        return Outputs(self.finish(self.head(fused_BF), offset_BC), auxiliary_BC, self.log_deviations(fused_BF))


class ConflictAware(FusionModel):
    """Conflict-aware fusion of attention-pooled modalities, with an auxiliary head on one of them.

    With elements e_l of modality i's sequence (its one vector where sequences are not kept), standardised:

        z_l = W_i e_l + b_i,   x_i = sum_l softmax_l(a_i . z_l) z_l,   x_i = 0 where absent
        f = [x_1; ...; x_M; |x_1 - x_2|; |x_1 - x_3|; ...],  differences of absent modalities zero
        FFN(f) = V2 GELU(V1 LN(f)) of width F -> 2F -> F,   head = U2 GELU(U1 LN(FFN(f))) by task

    and an auxiliary head of the same kind on one modality's x alone. In training the objective adds both heads' losses,
    in evaluation probabilities are blended: p = s p_auxiliary + (1 - s) p_head where it is present, else p_head.

    Parameters: sum over modalities of H (D + 1), H more for one with sequences; 4 F^2 + 5 F for the FFN; for a task's
    head F (K + 2) + K (C + 1) + C with K its width, and for its auxiliary head the same with H in place of F. With the
    published widths, three sequences of width 768 and two classes: 89,498,116, of which the FFN has 84,957,696.

    Windows: with a window of W, training sees W consecutive elements from a place drawn per clip (one for all
    modalities, so that they show the same stretch of a clip), and a prediction is the mean over `num_windows` places,
    drawn once and the same for all clips.

    Args:
        widths: width of each modality's vectors, by modality, in the order of `Batch.features`.
        tasks: specifications by task name.
        config: widths and options.
        sequence_widths: width of the sequences' elements, by modality; the others are taken by their vectors.
        points: of the classes in a text encoder's space, by task and modality, where they have texts.
        sees_absence: whether linear paths see which modalities are absent.

    Raises:
        ValueError: no modality or no task is given.
        ConfigError: the auxiliary modality, or one with a window, is not there.

    References:
        Bekhouche et al.: Conflict-aware multimodal fusion for ambivalence and hesitancy recognition. 2026,
        arXiv:2603.15818.

    Example:
        >>> from mmpsr.tasks import AMBIVALENCE
        >>> config = ConflictAwareConfig(hidden_width=8, head_width=4)
        >>> model = ConflictAware({"text": 6, "audio": 4}, {"ambivalence": AMBIVALENCE}, config).eval()
        >>> features = {"text": torch.randn(3, 6), "audio": torch.randn(3, 4)}
        >>> model(Batch(features, torch.ones(3, 2, dtype=torch.bool))).logits["ambivalence"].shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        tasks: Mapping[str, TaskSpec],
        config: ConflictAwareConfig,
        sequence_widths: Mapping[str, int] | None = None,
        points: Points | None = None,
        sees_absence: bool = False,
    ) -> None:
        guide = None if config.guide == "none" else config.guide
        super().__init__(widths, tasks, guide, config.guide_share, points, sees_absence)
        sequence_widths = sequence_widths or {}
        for name in config.window:
            if name not in sequence_widths:
                raise ConfigError(
                    f"model.window names {name!r}, of which no sequences are kept (they are of "
                    f"{list(sequence_widths)}); add features.sequences.{name} or take it out"
                )
        width = config.hidden_width
        self.window = dict(config.window)
        generator = Random(0)
        self.places = [generator.random() for _ in range(config.num_windows)]
        self.sequence_standardizers = ByModality(
            {name: Standardizer(sequence_widths[name]) for name in widths if name in sequence_widths}
        )
        self.maps = ByModality({name: Linear(sequence_widths.get(name, widths[name]), width) for name in widths})
        self.scorers = ByModality({name: Linear(width, 1, bias=False) for name in self.sequence_standardizers})
        fused = width * (len(widths) + len(widths) * (len(widths) - 1) // 2)
        self.fusion = nn.Sequential(
            LayerNorm(fused), Linear(fused, 2 * fused), nn.GELU(), Dropout(config.dropout), Linear(2 * fused, fused)
        )
        self.towers = nn.ModuleDict(
            {
                name: ConflictTower(spec, config, fused, self.auxiliary_index is not None, name in config.linear_path)
                for name, spec in tasks.items()
            }
        )
        self.add_linear_paths(config.linear_path)

    def shared_parameters(self) -> list[nn.Parameter]:
        """List the parameters that every task's loss reaches: maps, pooling and the fusion."""
        return [*self.maps.parameters(), *self.scorers.parameters(), *self.fusion.parameters()]

    def last_shared_parameters(self) -> list[nn.Parameter]:
        """List the parameters of the fusion's last linear layer, which auxiliary heads do not reach."""
        return list(self.fusion[4].parameters())

    def encode(self, batch: Batch, place: float = 0.5) -> Shared:
        """Apply the part of the model that all tasks share.

        Args:
            batch: clips, with sequences of the modalities that have them.
            place: in [0, 1), where windows lie in evaluation; in training it is drawn.

        Raises:
            ValueError: the batch has other modalities or sequences than the model.
        """
        vectors = self.standardize(batch)
        places_B = torch.full((batch.presence.shape[0],), place, device=batch.presence.device)
        if self.training and self.window:
            places_B.uniform_()
        nodes, present = [], []
        for index, name in enumerate(self.modalities):
            node_BH, present_B = self._pool(name, batch, batch.presence[:, index], vectors[name], places_B)
            nodes.append(node_BH)
            present.append(present_B)
        nodes_BMH, mask_BM = torch.stack(nodes, dim=1), torch.stack(present, dim=1)
        fused_BF = self.fusion(torch.cat([nodes_BMH, conflicts(nodes_BMH, mask_BM)], dim=1).flatten(1))
        ends = (fused_BF,) if self.auxiliary_index is None else (fused_BF, nodes[self.auxiliary_index])
        return Shared(ends, mask_BM, self.linear_inputs(vectors, batch), batch.features)

    def _pool(
        self, name: str, batch: Batch, present_B: Tensor, vector_BD: Tensor, places_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pool a modality into x `[B, H]`, and tell where it is present: a sequence must have an element, too."""
        if name not in self.scorers:
            return torch.where(present_B.unsqueeze(1), self.maps[name](vector_BD), 0.0), present_B
        if name not in batch.sequences:
            raise ValueError(
                f"the model pools sequences of {list(self.scorers)}, the batch has those of {list(batch.sequences)}"
            )
        values_BLD, mask_BL = batch.sequences[name]
        if name in self.window:
            values_BLD, mask_BL = cut_windows(values_BLD, mask_BL, self.window[name], places_B)
        mask_BL = mask_BL & present_B.unsqueeze(1)
        standardized = self.sequence_standardizers[name](values_BLD.flatten(0, 1), mask_BL.flatten())
        elements_BLH = self.maps[name](standardized.view(values_BLD.shape))
        weights_BL = masked_softmax(self.scorers[name](elements_BLH).squeeze(-1), mask_BL)
        return (weights_BL.unsqueeze(1) @ elements_BLH).squeeze(1), mask_BL.any(dim=1)

    def fused(self, shared: Shared) -> Tensor:
        """Give the fused features, `[B, F]`."""
        return shared.ends[0]

    def outputs(self, task: str, shared: Shared, offset_BC: Tensor | None) -> Outputs:
        """Give the outputs of a task's heads."""
        fused_BF, *auxiliary = shared.ends
        return self.towers[task](fused_BF, auxiliary[0] if auxiliary else None, offset_BC)

    def forward(self, batch: Batch) -> Predictions:
        """Predict every task for every clip of the batch; in evaluation the mean over windows, where there are any.

        Raises:
            ValueError: the batch has other modalities or sequences than the model.
        """
        if self.training or not self.window:
            return super().forward(batch)
        views = [self.encode(batch, place) for place in self.places]
        weights = [1 / len(views)] * len(views)
        outputs = {}
        for task, spec in self.tasks.items():
            found = [self.predict(task, view) for view in views]
            deviations = [each.log_deviations for each in found if each.log_deviations is not None]
            mean = torch.stack(deviations).mean(dim=0) if deviations else None
            outputs[task] = Outputs(mixture([each.main for each in found], weights, spec), None, mean)
        return self.collect(outputs, views[0])
