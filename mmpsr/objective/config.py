"""What the objective and its semi-supervision can be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mmpsr.config import Config

__all__ = ["STRONG_VIEW", "ObjectiveConfig", "SemiSupervisionConfig"]

Method = Literal[
    "none", "paper", "soft", "adaptive", "consistency", "adaptive_consistency", "mean_teacher", "prototypes",
    "propagation",
]  # fmt: skip

STRONG_VIEW = ("consistency", "adaptive_consistency")


class SemiSupervisionConfig(Config):
    """How clips without a label of a task train it."""

    method: Method = "paper"
    """Where pseudo-labels come from, which are accepted and what they train; see `SemiSupervision`."""
    regression: Literal["paper", "agreement", "propagated", "none"] = "paper"
    """Pseudo-labels of scores: `paper` the side of 0.5 beyond the threshold, `agreement` the score itself where two
    views agree (methods with two views), `propagated` the score itself (method `propagation`), `none` leaves regression
    tasks to their labels."""
    rule: Literal["flexmatch", "freematch"] = "freematch"
    """Thresholds of the adaptive methods."""
    momentum: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Momentum per step of the running averages behind adaptive thresholds and distribution alignment."""
    temperature: float = Field(default=0.5, gt=0.0, le=1.0)
    """Sharpening of the targets of `soft`, `mean_teacher` and `prototypes`; 1 leaves them as predicted, which is the
    published mean teacher and would teach `soft` nothing."""
    agreement: Literal["cross_entropy", "mse"] = "mse"
    """Loss between student and teacher of `mean_teacher`, classification tasks."""
    tolerance: float = Field(default=0.05, gt=0.0)
    """Largest distance between two views' scores that `regression = "agreement"` accepts, in units of the score."""
    hide_rate: float = Field(default=0.5, ge=0.0, le=1.0)
    """Rate at which the strong view loses a present modality, beside the one that it always loses."""
    teacher_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Decay per step of the teacher, an exponential average of the weights."""
    align_distribution: bool = False
    """Rescale predictions of classes so that pseudo-labels are spread as the train labels are."""
    num_neighbors: int = Field(default=10, ge=1)
    """Nearest neighbours of a clip in the graph that `propagation` spreads labels over."""
    propagation_alpha: float = Field(default=0.9, gt=0.0, lt=1.0)
    """How far labels spread in that graph; see `mmpsr.objective.propagation.propagate`."""
    propagation_space: Literal["fused", "inputs"] = "fused"
    """Vectors that neighbours are found by: what the model fuses modalities into, anew before every epoch, or the
    standardised inputs side by side."""
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    """Probability with which a clip of the batch without a label of a task may count for it."""
    ramp: Literal["none", "linear", "sigmoid"] = "none"
    """How the pseudo branch's budget grows from the first step: at once, evenly, or as exp(-5 (1 - t)^2)."""
    ramp_steps: int = Field(default=1000, ge=1)
    """Steps until the budget is whole."""

    @model_validator(mode="after")
    def _two_views(self) -> SemiSupervisionConfig:
        if self.regression == "agreement" and self.method not in ("none", "mean_teacher", *STRONG_VIEW):
            raise ValueError(
                f'regression = "agreement" compares two views, and method {self.method!r} has one; choose "paper" or '
                f'"none", or one of the methods {", ".join(STRONG_VIEW)} and mean_teacher'
            )
        if self.regression == "propagated" and self.method not in ("none", "propagation"):
            raise ValueError(
                f'regression = "propagated" is for method "propagation", and method is {self.method!r}; choose '
                '"paper" or "none"'
            )
        return self


class ObjectiveConfig(Config):
    """How the supervised losses are weighted within a task."""

    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs classes (or present and absent of each, for binary cross-entropy) by inverse frequency."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of every classification target that is spread evenly."""
    auxiliary_weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of a model's second head, where it has one (`model.guide`, `model.text_head`), in the supervised loss of
    clips that this head is for."""
    nll_beta: float = Field(default=0.0, ge=0.0, le=1.0)
    """beta of the losses `gaussian_nll` and `laplace_nll`, see `supervised_loss`: 0 is the likelihood proper, 0.5 and
    more keep clips that are predicted badly from counting less."""
