"""Semi-supervision: clips without a label of a task train it on pseudo-labels; what these are worth on labelled clips.

Whatever the method, a clip's loss depends on that clip and on running averages alone, targets carry no gradient, and
labelled clips never count. Clips are selected by weights, never by indexing: nothing waits for the device.

Shape suffixes: B or N clips, M modalities, C outputs of a task, P distributions of a clip and K classes or sides of one
(P = 1, K = C for a task with one class per clip; P = C, K = 2 for independent classes and for scores).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmpsr.batch import Batch
from mmpsr.objective.config import STRONG_VIEW, SemiSupervisionConfig
from mmpsr.objective.propagation import affinities, induce, propagate
from mmpsr.objective.supervised import LossSum
from mmpsr.objective.thresholds import Alignment, FlexMatch, FreeMatch, Total, distributions, identity, marginal, onehot
from mmpsr.probabilities import at_least_single, has_one_class, probabilities
from mmpsr.tasks import TaskSpec

__all__ = ["PseudoLabels", "PseudoLoss", "SemiSupervision", "pseudo_label_quality"]

ADAPTIVE = ("adaptive", "adaptive_consistency")


@dataclass(frozen=True)
class PseudoLoss:
    """What the unlabelled clips of a batch give one task.

    Attributes:
        loss: sum over accepted clips or elements, and the sum of their weights.
        accepted: float `[C]`, weights of what was accepted: clips by predicted class, or elements of each class.
        candidates: float `[C]`, what could have been accepted, likewise.
    """

    loss: LossSum
    accepted: Tensor
    candidates: Tensor


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels of clips and how much each counts.

    Attributes:
        values: `[B, C]`: one-hot of the predicted class, sides (0 or 1) of independent classes and scores, or scores.
        weights: `[B, P]` in [0, 1], 0 where not accepted.
        targets: what the loss is taken against: `[B, P, K]`, or scores `[B, C]`.
    """

    values: Tensor
    weights: Tensor
    targets: Tensor


class SemiSupervision(nn.Module):
    """Loss terms of unlabelled clips.

    With p a clip's predicted distribution in the view that gives pseudo-labels (no gradient), y = argmax p, tau the
    task's threshold and q the trained prediction, the clip counts with weight w and loss l, averaged over sum w:

    | method | view of p | view of q | w | l |
    |---|---|---|---|---|
    | `paper` | same pass | same pass | [max p > tau] | CE(y, q) |
    | `soft` | same pass | same pass | (max p - 1/K) / (1 - 1/K) | CE(p^(1/T) / sum, q) |
    | `adaptive` | same pass | same pass | [max p > T(y)], T of `FlexMatch` or `FreeMatch` | CE(y, q) |
    | `consistency` | all modalities | some hidden | [max p > tau] | CE(y, q) |
    | `adaptive_consistency` | all modalities | some hidden | [max p > T(y)] | CE(y, q) |
    | `mean_teacher` | averaged weights | same batch | 1 | CE or mean squared distance to p^(1/T) / sum |
    | `prototypes` | texts of the classes, see `PrototypeTeacher` | same batch | as `soft` | CE(p^(1/T) / sum, q) |
    | `propagation` | labels of neighbours, see `propagate` | same batch | 1 - H(p) / log K | CE(p, q) |

    Independent classes (binary cross-entropy) count one by one, as two sides each, and so do scores. Scores do not
    follow the method but `regression`: `paper` takes the side of 0.5 that lies beyond tau (s > tau or s < 1 - tau) with
    binary cross-entropy, `agreement` the score p itself where |p - q| < tolerance, `propagated` the score p itself;
    both with the absolute error.

    Propagated labels are made by `refresh` for all training clips, before an epoch; clips that none reaches have
    weight 0.

    A clip with a single modality cannot lose it: its strong view differs from the weak one by the model's dropout
    alone. Noise on its features would need a scale that raw vectors of any encoder do not have.

    The ramp is not a factor on the loss, which GradNorm would undo by raising the weights: `ramp` is to be multiplied
    with the balanced weights of the pseudo branch, which scales its budget. Running averages and the step count are
    buffers: they belong to the checkpoint.

    Args:
        tasks: specifications by task name.
        config: the method and its options; not `none`.
        train_labels: per task `[N, C]`, NaN where unknown; read for distribution alignment and propagation.
        train_rows: rows of the training clips in the joined corpora, int64 `[N]`, rising; for propagation.
        class_weights: `[2, C]` of `balanced_weights`, of tasks whose supervised loss has some; for propagation.

    Raises:
        ValueError: distributions are to be aligned and a classification task has no train label; or labels are to be
            propagated and the rows are missing.

    References:
        Lee: Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method. ICML workshop 2013 (`paper`).
        Sohn et al.: FixMatch. NeurIPS 2020 (`consistency`). Tarvainen, Valpola: Mean teachers are better role models.
        NeurIPS 2017 (`mean_teacher`). Iscen et al.: Label propagation for deep semi-supervised learning. CVPR 2019
        (`propagation`). Laine, Aila: Temporal Ensembling. ICLR 2017 (the sigmoid ramp).

    Example:
        >>> from mmpsr.tasks import AMBIVALENCE
        >>> semi = SemiSupervision({"ambivalence": AMBIVALENCE}, SemiSupervisionConfig(), {})
        >>> logits = torch.tensor([[0.0, 3.0], [0.0, 0.5], [0.0, 3.0]])
        >>> labels = torch.tensor([[torch.nan] * 2, [torch.nan] * 2, [1.0, 0.0]])
        >>> term = semi.loss("ambivalence", logits, logits, labels)
        >>> term.accepted.tolist(), term.candidates.tolist()
        ([0.0, 1.0], [0.0, 2.0])
    """

    num_steps: Tensor
    train_rows: Tensor

    def __init__(
        self,
        tasks: Mapping[str, TaskSpec],
        config: SemiSupervisionConfig,
        train_labels: Mapping[str, Tensor],
        train_rows: Tensor | None = None,
        class_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.config = config
        self.needs_strong_view = config.method in STRONG_VIEW
        self.averages_weights = config.method == "mean_teacher"
        self.needs_teacher = self.averages_weights or config.method == "prototypes"
        self.needs_neighbors = config.method == "propagation"
        self.teacher_decay = config.teacher_decay
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        self.thresholds, self.alignments = nn.ModuleDict(), nn.ModuleDict()
        for task, spec in tasks.items():
            if spec.kind == "regression":
                continue
            shape = (1, spec.num_outputs) if has_one_class(spec) else (spec.num_outputs, 2)
            if config.method in ADAPTIVE and config.rule == "flexmatch":
                self.thresholds[task] = FlexMatch(shape, spec.threshold, config.momentum)
            elif config.method in ADAPTIVE:
                self.thresholds[task] = FreeMatch(shape, config.momentum)
            if config.align_distribution:
                self.alignments[task] = Alignment(marginal(train_labels[task], spec), config.momentum)
        if self.needs_neighbors:
            if train_rows is None:
                raise ValueError("method 'propagation' needs the rows of the training clips, which were not given")
            self.register_buffer("train_rows", train_rows)
            for task in tasks:
                unknown = torch.full_like(train_labels[task], torch.nan, dtype=torch.float32)
                self.register_buffer(f"propagated_{task}", unknown)
                self.register_buffer(f"labels_{task}", train_labels[task], persistent=False)
                self.register_buffer(f"class_weights_{task}", (class_weights or {}).get(task), persistent=False)

    def refresh(self, vectors_ND: Tensor) -> None:
        """Propagate the labels of the training clips anew; what was propagated belongs to the checkpoint.

        Args:
            vectors_ND: of the training clips, in the order of `train_rows`, without a gradient.
        """
        graph = affinities(vectors_ND, self.config.num_neighbors)
        for task, spec in self.tasks.items():
            labels_NC, kept_NC = self.get_buffer(f"labels_{task}"), self.get_buffer(f"propagated_{task}")
            weights = getattr(self, f"class_weights_{task}")
            kept_NC.copy_(propagate(graph, labels_NC, spec, self.config.propagation_alpha, weights))

    def induced(self, task: str, queries_QD: Tensor, vectors_ND: Tensor) -> Tensor:
        """Give clips that are not trained on what their nearest training clips were given, `[Q, C]`; see `induce`."""
        return induce(queries_QD, vectors_ND, self.get_buffer(f"propagated_{task}"), self.config.num_neighbors)

    def advance(self) -> None:
        """Count a step; once per batch, for the ramp."""
        self.num_steps += 1

    def ramp(self) -> Tensor:
        """Give the share of the pseudo branch's budget at the current step, a scalar in [0, 1]."""
        progress = (self.num_steps / self.config.ramp_steps).clamp(max=1.0)
        if self.config.ramp == "linear":
            return progress
        if self.config.ramp == "sigmoid":
            return torch.exp(-5 * (1 - progress).square())
        return torch.ones_like(progress)

    def strong_view(self, batch: Batch) -> Batch:
        """Give the same clips fewer modalities: one always goes, each other at `hide_rate`, and one always stays.

        Args:
            batch: presence `[B, M]`; a clip with a single modality keeps it.
        """
        draws_BM = torch.rand(batch.presence.shape, device=batch.presence.device)
        nodes_M = torch.arange(draws_BM.shape[1], device=draws_BM.device)
        stays_BM = draws_BM.masked_fill(~batch.presence, -1.0).argmax(dim=1, keepdim=True) == nodes_M
        goes_BM = draws_BM.masked_fill(~batch.presence, 2.0).argmin(dim=1, keepdim=True) == nodes_M
        kept_BM = stays_BM | (~goes_BM & (draws_BM >= self.config.hide_rate))
        return batch.with_presence(batch.presence & kept_BM)

    def loss(
        self,
        task: str,
        predicted: Tensor,
        target_source: Tensor,
        labels: Tensor,
        total: Total = identity,
        rows: Tensor | None = None,
    ) -> PseudoLoss:
        """Sum the task's loss on the clips of a batch without any label of it; running averages move.

        Args:
            task: name of the task.
            predicted: logits or scores to be trained, `[B, C]`.
            target_source: logits or scores that pseudo-labels are made of, `[B, C]`: the same, the weak view's or the
                teacher's; no gradient flows into them.
            labels: targets `[B, C]`; a row with any finite entry is labelled and does not count.
            total: sums over processes; running averages are those of the global batch.
            rows: of the clips in the joined corpora, int64 `[B]`, which propagated labels are found by in place of
                `target_source`.

        Raises:
            ValueError: labels are propagated and the rows were not given.
        """
        weights_BP, losses_BP, candidates_B, units_BC = self.clip_losses(
            task, predicted, target_source, labels, total, rows
        )
        return PseudoLoss(
            LossSum((weights_BP * losses_BP).sum(), weights_BP.sum()),
            accepted=(weights_BP * units_BC).sum(dim=0),
            candidates=(candidates_B.unsqueeze(1) * units_BC).sum(dim=0),
        )

    def clip_losses(
        self,
        task: str,
        predicted: Tensor,
        target_source: Tensor,
        labels: Tensor,
        total: Total = identity,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute what `loss` sums.

        Returns:
            Weights and losses `[B, P]`, 1.0 where a clip may count `[B]`, and what is accepted with it `[B, C]`.
        """
        spec = self.tasks[task]
        predicted = at_least_single(predicted)
        candidates_B = self._candidates(labels, spec)
        if self.needs_neighbors:
            if rows is None:
                raise ValueError("propagated labels are found by the rows of the batch's clips, which were not given")
            probs_BC = self.get_buffer(f"propagated_{task}")[torch.searchsorted(self.train_rows, rows)]
        else:
            probs_BC = probabilities(target_source.detach().float(), spec)
        pseudo = self._label(task, probs_BC, predicted.detach(), candidates_B, total)
        weights_BP = candidates_B.unsqueeze(1) * pseudo.weights
        losses_BP = self._losses(predicted, pseudo.targets, spec)
        units_BC = pseudo.values if has_one_class(spec) else torch.ones_like(pseudo.values)
        return weights_BP, losses_BP, candidates_B, units_BC

    @torch.no_grad()
    def pseudo_labels(self, task: str, probs: Tensor, other: Tensor | None = None) -> PseudoLabels:
        """Give pseudo-labels as of now, whether or not a clip is labelled; nothing moves.

        Args:
            task: name of the task.
            probs: probabilities or scores that pseudo-labels are made of, float32 `[B, C]`.
            other: scores of the other view, for `regression = "agreement"`.

        Raises:
            ValueError: the other view's scores are needed and missing.
        """
        return self._label(task, probs, other, None, identity)

    def _candidates(self, labels_BC: Tensor, spec: TaskSpec) -> Tensor:
        """Give 1.0 where a clip may count, else 0.0, `[B]`."""
        unlabeled_B = ~torch.isfinite(labels_BC).any(dim=1)
        if self.config.probability < 1:
            unlabeled_B &= torch.rand(unlabeled_B.shape, device=labels_BC.device) < self.config.probability
        if spec.kind == "regression" and self.config.regression == "none":
            unlabeled_B = torch.zeros_like(unlabeled_B)
        return unlabeled_B.float()

    def _label(
        self, task: str, probs_BC: Tensor, other_BC: Tensor | None, candidates_B: Tensor | None, total: Total
    ) -> PseudoLabels:
        spec, config = self.tasks[task], self.config
        if self.needs_neighbors:
            reached_BC = torch.isfinite(probs_BC)
            probs_BC = torch.where(reached_BC, probs_BC, 1 / spec.num_outputs if has_one_class(spec) else 0.5)
            if spec.kind == "regression" and config.regression == "propagated":
                return PseudoLabels(probs_BC, reached_BC.float(), probs_BC)
        if spec.kind == "regression" and config.regression == "agreement":
            if other_BC is None:
                raise ValueError(f"pseudo-labels of {task!r} need the other view's scores, which were not given")
            agree_BC = ((probs_BC - other_BC).abs() < config.tolerance).float()
            return PseudoLabels(probs_BC, agree_BC, probs_BC)
        probs_BPK = distributions(probs_BC, spec)
        if task in self.alignments:
            probs_BPK = self.alignments[task](probs_BPK, candidates_B, total)
        choice_BPK, confidence_BP = onehot(probs_BPK), probs_BPK.amax(dim=-1)
        values_BC = choice_BPK[:, 0] if has_one_class(spec) else choice_BPK[..., 1]
        if spec.kind != "regression" and config.method in ("soft", "mean_teacher", "prototypes"):
            sharp_BPK = torch.softmax(probs_BPK.clamp(min=1e-12).log() / config.temperature, dim=-1)
            chance = 1 / probs_BPK.shape[-1]
            soft_BP = (confidence_BP - chance) / (1 - chance)
            weights_BP = torch.ones_like(soft_BP) if self.averages_weights else soft_BP
            return PseudoLabels(values_BC, weights_BP, sharp_BPK)
        if spec.kind != "regression" and config.method == "propagation":
            entropy_BP = -torch.xlogy(probs_BPK, probs_BPK).sum(dim=-1) / math.log(probs_BPK.shape[-1])
            return PseudoLabels(values_BC, (1 - entropy_BP).clamp(min=0.0), probs_BPK)
        needed: Tensor | float = spec.threshold
        if task in self.thresholds:
            needed = (choice_BPK * self.thresholds[task](probs_BPK, candidates_B, total)).sum(dim=-1)
        return PseudoLabels(values_BC, (confidence_BP > needed).float(), choice_BPK)

    def _losses(self, predicted_BC: Tensor, targets: Tensor, spec: TaskSpec) -> Tensor:
        """Compute the losses of all distributions, `[B, P]`."""
        if targets.ndim == 2:
            return (predicted_BC - targets).abs()
        if spec.kind == "regression":
            scores_BC = predicted_BC.clamp(1e-6, 1 - 1e-6)
            logs_BPK = torch.stack([(1 - scores_BC).log(), scores_BC.log()], dim=-1)
        elif self.averages_weights and self.config.agreement == "mse":
            return (distributions(probabilities(predicted_BC, spec), spec) - targets).square().mean(dim=-1)
        elif has_one_class(spec):
            logs_BPK = torch.log_softmax(predicted_BC, dim=1).unsqueeze(1)
        else:
            logs_BPK = torch.stack([functional.logsigmoid(-predicted_BC), functional.logsigmoid(predicted_BC)], dim=-1)
        return -(targets * logs_BPK).sum(dim=-1)


def pseudo_label_quality(
    probs_NC: Tensor, labels_NC: Tensor, spec: TaskSpec, accept: Callable[[Tensor], PseudoLabels]
) -> dict[str, float]:
    """Measure the acceptance rate and the quality of the accepted pseudo-labels, overall and by class.

    Weights of pseudo-labels count as fractions of a clip. A class of a task with one class per clip holds the clips
    predicted as it; a pseudo-label is right where it is the class that the supervised loss would take (the largest
    target). Independent classes and scores count one by one, and are right where their side is: present or absent,
    above 0.5 or not.

    Args:
        probs_NC: probabilities or scores of dev clips.
        labels_NC: their targets; only known ones count, as in the supervised loss.
        spec: the task.
        accept: the rule, for example `partial(semi_supervision.pseudo_labels, "emotion")`.

    Returns:
        `acceptance` and `accuracy`, in [0, 1], and for regression `mean_absolute_error` of the accepted scores; each
        also by class, as `accuracy/Anger`. NaN where there is nothing to divide by.
    """
    pseudo = accept(probs_NC)
    known_NC = torch.isfinite(labels_NC)
    if spec.kind != "regression":
        known_NC = known_NC & known_NC.all(dim=1, keepdim=True)
    targets_NC = torch.where(known_NC, labels_NC, 0.0)
    units_NC = known_NC.float()
    if has_one_class(spec):
        units_NC = units_NC * pseudo.values
        right_NC = functional.one_hot(targets_NC.argmax(dim=1), spec.num_outputs) > 0
    else:
        right_NC = (pseudo.values > 0.5) == (targets_NC > (0.5 if spec.kind == "regression" else 0.0))
    accepted_NC = units_NC * pseudo.weights
    ratios = {"acceptance": (accepted_NC, units_NC), "accuracy": (accepted_NC * right_NC, accepted_NC)}
    if spec.kind == "regression":
        ratios["mean_absolute_error"] = (accepted_NC * (torch.nan_to_num(probs_NC) - targets_NC).abs(), accepted_NC)
    quality = {name: float(part.sum() / whole.sum()) for name, (part, whole) in ratios.items()}
    for name, (part_NC, whole_NC) in ratios.items():
        shares = (part_NC.sum(dim=0) / whole_NC.sum(dim=0)).tolist()
        quality |= {f"{name}/{label}": share for label, share in zip(spec.classes, shares, strict=True)}
    return quality
