"""The configuration of a run: every package's section, and the training loop's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from corpora.registry import CorporaConfig
from encoders.config import MODALITIES, FeaturesConfig, wrong_modality
from mmpsr.balancing.config import LOSSES_ALONE, BalancingConfig
from mmpsr.config import Config, ConfigError, nearest, parse_setting
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.objective.config import ObjectiveConfig, SemiSupervisionConfig
from mmpsr.tasks import BUILTIN_TASKS, TasksConfig
from mmpsr.temporal.config import TemporalConfig

__all__ = [
    "TRACKERS",
    "DataConfig",
    "InTimeConfig",
    "InTimeDataConfig",
    "InTimeTrainingConfig",
    "LinearConfig",
    "OptimizationConfig",
    "OutputConfig",
    "RunConfig",
    "TrainingConfig",
    "is_in_time",
    "require_choice_on_dev",
]

TRACKERS = ("aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb")
"""Experiment trackers that accelerate knows."""
WHOLE_CLIPS = tuple(get_args(each.model_fields["kind"].annotation)[0] for each in (ModelConfig, ConflictAwareConfig))
"""Kinds of models that predict a clip as a whole."""
IN_TIME: tuple[str, ...] = get_args(TemporalConfig.model_fields["kind"].annotation)
"""Kinds of models that predict every frame."""
TAKE_IN_TIME = ("train", "extract", "doctor", "features", "evaluate", "verify", "predict", "app")
"""Commands that take a model in time."""


def _require_known(kind: str, names: Iterable[str], known: Collection[str], place: str = "") -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{place}no {kind} is named {name!r}; {nearest(name, known)}")


def _known_modalities(modalities: tuple[str, ...]) -> tuple[str, ...]:
    for name in modalities:
        if (wrong := wrong_modality(name)) is not None:
            raise ValueError(wrong)
    if len(set(modalities)) != len(modalities):
        raise ValueError("a modality is named twice")
    return modalities


Modalities = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_known_modalities)]
"""Names of modalities and of views (`<modality>.<view>`), in order and each once."""


class OptimizationConfig(Config):
    """How gradients become steps."""

    optimizer: Literal["adam", "adamw", "lion", "sgd", "rmsprop"] = "adam"
    """Optimizer; `adam`, `sgd` and `rmsprop` add weight decay to the gradient, `adamw` and `lion` decouple it."""
    lr: float = Field(default=1e-4, gt=0.0)
    """Learning rate; layers with a rate of their own (the angles of `edgnn`) keep theirs."""
    weight_decay: float = Field(default=1e-5, ge=0.0)
    """Weight decay."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Momentum of `sgd`."""
    scheduler: Literal["none", "plateau", "cosine", "onecycle", "linear"] = "none"
    """`plateau` halves the learning rate at the third epoch in a row without a better dev figure, down to 1e-7; the
    others follow the steps of all epochs."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which `cosine` and `linear` first raise the learning rate from 0."""
    final_fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the learning rate that `cosine` and `linear` end at."""
    max_gradient_norm: float = Field(default=0.0, ge=0.0)
    """Norm of all gradients together above which they are scaled down to it; 0 is off."""

    @model_validator(mode="after")
    def _used(self) -> OptimizationConfig:
        for name in ("warmup_steps", "final_fraction"):
            if getattr(self, name) and self.scheduler not in ("cosine", "linear"):
                raise ValueError(
                    f"{name} = {getattr(self, name)} is read by the schedules cosine and linear only, and scheduler is "
                    f"{self.scheduler!r}; leave it out or change the scheduler"
                )
        return self


class DataConfig(Config):
    """Which modalities are used and how batches are drawn."""

    modalities: Modalities = MODALITIES
    """Modalities of the model, and views as `<modality>.<view>`; each needs an encoder."""
    sampling: Literal["proportional", "balanced", "temperature"] = "proportional"
    """Share of each corpus in the batches: by its size n, equal, or by n to the power 1/temperature."""
    temperature: float = Field(default=2.0, gt=0.0)
    """Temperature of `sampling = "temperature"`; 1 is proportional, large is balanced."""
    num_labeled: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """By task: training clips that keep their labels of it, by whole groups in an order of `training.seed`, as if no
    others had been annotated; for learning curves. Dev and test keep all of theirs."""


class TrainingConfig(OptimizationConfig):
    """The training loop and its optimizer."""

    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, dropout and batches."""
    num_epochs: int = Field(default=100, ge=1)
    """Most passes over the training clips."""
    patience: int = Field(default=15, ge=1)
    """Epochs without a better dev figure after which training stops."""
    batch_size: int = Field(default=32, ge=1)
    """Clips of a batch, over all processes together."""
    accumulation: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged for one optimizer step."""
    monitor: str = "mean"
    """Dev figure that epochs are chosen by: `mean` over tasks, a task, or `<corpus>/<task>/<metric>`."""
    calibration: Literal["none", "temperature", "thresholds"] = "temperature"
    """What is fitted on dev after training and used by the final evaluation: a temperature for each task; `thresholds`
    adds one for each class, which gains where training does not weigh classes."""
    modality_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Rate at which a present modality is hidden from the model in training; at least one stays."""
    weight_averaging: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Decay per step of an exponential average of the weights, which is then what is evaluated; 0 is off."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of the forward pass; losses, gradients and weights stay float32."""
    compile: bool = False
    """Compile the model's forward and backward pass (`torch.compile`), for steps whose balancing looks at no gradient
    of a single loss. On a CPU it takes up to a minute and a C++ compiler, for steps that are 7 % shorter with 32 clips
    a batch and no shorter with 256. Dropout draws other numbers, and a resumed run is the same up to rounding only."""
    fused: bool | Literal["auto"] = "auto"
    """Take the step of the published layers in few large products, with towers of all tasks as one: about two thirds of
    the time with 32 clips a batch. Sums are rounded in another order, so that a run is not bit for bit that without it.
    In one process at full precision, without `compile`. "auto": on a CPU, where the model has those layers."""
    checkpoint_steps: int = Field(default=200, ge=1)
    """Steps between checkpoints, besides one after every epoch."""


class LinearConfig(Config):
    """The linear models: the baseline, and what `model.linear_path` starts from."""

    fusion: Literal["concatenated", "late"] = "concatenated"
    """One model of all features together, penalties chosen on dev; or one for each modality, all together and the
    classes' texts, with penalties and weights chosen out of fold on training clips."""
    text_share: Annotated[float, Field(ge=0.0)] | Literal["one_standard_error"] = 0.0
    """What texts of classes say at least in late fusion, classification, as a share of what is fitted: 0 leaves it as
    is best on training clips, 1 lets both say as much, and `one_standard_error` takes the most that costs less than a
    standard error there; for corpora that are not trained on, since texts depend on no corpus."""


class OutputConfig(Config):
    """Where a run writes."""

    directory: str = "runs"
    """Folder of all runs, relative to the working directory."""
    name: str | None = None
    """Folder of this configuration's runs below it; the configuration file's name where left out."""
    trackers: tuple[str, ...] = ()
    """Where figures are logged besides `metrics.jsonl`, by accelerate's names: `tensorboard`, `wandb`, `mlflow` ..."""
    callbacks: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...] = ()
    """Code of yours that is told of epochs and checkpoints: `package.module:Class`, see `training.fit.callbacks`."""

    @field_validator("trackers")
    @classmethod
    def _known(cls, trackers: tuple[str, ...]) -> tuple[str, ...]:
        _require_known("tracker", trackers, TRACKERS)
        return trackers


class RunConfig(Config):
    """Everything a run needs."""

    corpora: CorporaConfig = Field(default_factory=CorporaConfig)
    """Corpora and where they are."""
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    """Encoders and the feature store."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Modalities and batches."""
    tasks: TasksConfig = Field(default_factory=TasksConfig)
    """Tasks."""
    model: ModelConfig | ConflictAwareConfig = Field(default_factory=ModelConfig, discriminator="kind")
    """The fusion model, by its `kind`."""
    linear: LinearConfig = Field(default_factory=LinearConfig)
    """The linear models of the same features."""
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    """Losses."""
    semi_supervision: SemiSupervisionConfig = Field(default_factory=SemiSupervisionConfig)
    """How clips without a label of a task train it."""
    balancing: BalancingConfig = Field(default_factory=BalancingConfig)
    """Weights between losses."""
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """The training loop."""
    output: OutputConfig = Field(default_factory=OutputConfig)
    """Where the run is written."""

    @model_validator(mode="before")
    @classmethod
    def _of_whole_clips(cls, tree: Any) -> Any:
        """Say in one sentence of a model in time, or of no known kind, what each of its settings would say anew."""
        model = tree.get("model") if isinstance(tree, Mapping) else None
        kind = model.get("kind", "mcdm") if isinstance(model, Mapping) else "mcdm"
        if kind in IN_TIME:
            raise ValueError(
                f"model.kind: {kind!r} is a model in time; {', '.join(TAKE_IN_TIME[:-1])} and {TAKE_IN_TIME[-1]} take "
                "one, all others a model of whole clips"
            )
        if kind not in WHOLE_CLIPS:
            raise ValueError(f"model.kind: {kind!r} is not known; {nearest(str(kind), (*WHOLE_CLIPS, *IN_TIME))}")
        return tree

    @field_validator("model", mode="before")
    @classmethod
    def _default_kind(cls, model: Any) -> Any:
        return {"kind": "mcdm", **model} if isinstance(model, dict) else model

    @model_validator(mode="after")
    def _tasks_exist(self) -> RunConfig:
        tasks = {*BUILTIN_TASKS, *self.tasks.specs}
        _require_known("task", self.model.linear_path, tasks, "model.linear_path: ")
        _require_known("task", getattr(self.model, "own_trunks", ()), tasks, "model.own_trunks: ")
        _require_known("task", self.data.num_labeled, tasks, "data.num_labeled: ")
        return self

    @model_validator(mode="after")
    def _compiled_steps(self) -> RunConfig:
        if self.training.compile and self.balancing.always_needs_gradients:
            raise ValueError(
                "training.compile does nothing where every step looks at the gradients of single losses, as with "
                f'balancing.method = "{self.balancing.method}"; choose {", ".join(LOSSES_ALONE)}, or gradnorm with '
                'balancing.cost = "every_k"'
            )
        if self.training.fused is True and (self.training.compile or self.training.mixed_precision != "no"):
            raise ValueError(
                "training.fused takes steps at full precision that are not compiled; leave training.compile and "
                "training.mixed_precision out, or fused"
            )
        return self


class InTimeDataConfig(Config):
    """What a model in time reads, and how its frames become a decision on a whole clip."""

    modalities: Modalities = ("video", "audio", "text")
    """Modalities in their order, of which the first leads; each needs an encoder that tells when."""
    window: int = Field(default=300, ge=2)
    """Frames of a window of training, and of a window of models that are not applied to a whole clip at once."""
    stride: int = Field(default=200, ge=1)
    """Frames from the start of one window to that of the next; at most the window's."""
    clip_seconds: float = Field(default=1.0, gt=0.0)
    """A clip's probability is the highest mean over this many consecutive seconds: 24 frames at 24 frames a second."""
    segment_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Probability above which a frame belongs to a segment that is found."""
    segment_gap: float = Field(default=0.0, ge=0.0)
    """Segments that are at most this many seconds apart are one."""
    shortest_segment: float = Field(default=0.0, ge=0.0)
    """Segments of fewer seconds than this are left out."""

    @model_validator(mode="after")
    def _without_holes(self) -> InTimeDataConfig:
        if self.stride > self.window:
            raise ValueError(
                f"stride = {self.stride} is more than window = {self.window}: frames between windows were never seen"
            )
        return self


class InTimeTrainingConfig(Config):
    """The training loop of models in time: SGD with Nesterov's momentum, steps of the learning rate by epochs."""

    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, dropout and batches."""
    num_epochs: int = Field(default=100, ge=1)
    """Passes over the training windows; the epoch of the highest dev average precision is kept, the later of equals."""
    batch_size: int = Field(default=16, ge=1)
    """Windows of a batch."""
    lr: float = Field(default=0.001, gt=0.0)
    """Learning rate; in epoch e it is lr gamma^floor(e / lr_epochs), at least 1e-7."""
    lr_epochs: int = Field(default=40, ge=1)
    """Epochs between steps of the learning rate."""
    gamma: float = Field(default=0.1, gt=0.0, le=1.0)
    """Factor of a step of the learning rate."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """Nesterov's momentum; 0 is plain SGD."""
    weight_decay: float = Field(default=1e-4, ge=0.0)
    """Weight decay."""
    balance: Literal["none", "weights", "negatives"] = "none"
    """How the loss treats rare classes: not at all, by 1 / their share of the training frames, or with all positive
    frames and as many negative ones, drawn anew in each epoch."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of the forward pass; losses, gradients and weights stay float32."""


class InTimeConfig(Config):
    """Everything that a run of a model in time needs: one prediction for each frame of a clip."""

    corpora: CorporaConfig = Field(default_factory=CorporaConfig)
    """Corpora and where they are."""
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    """Encoders and the feature store."""
    data: InTimeDataConfig = Field(default_factory=InTimeDataConfig)
    """Modalities, windows, and segments."""
    tasks: TasksConfig = Field(default_factory=lambda: TasksConfig(active=("ambivalence",)))
    """The one task that is predicted for each frame; of two classes, the second of which is looked for."""
    model: TemporalConfig
    """The model, by its `kind`."""
    training: InTimeTrainingConfig = Field(default_factory=InTimeTrainingConfig)
    """The training loop."""
    output: OutputConfig = Field(default_factory=OutputConfig)
    """Where the run is written."""

    @model_validator(mode="after")
    def _one_task(self) -> InTimeConfig:
        if len(self.tasks.active) != 1:
            raise ValueError(f"tasks.active names {list(self.tasks.active)}; a model in time predicts one task")
        (task,) = self.tasks.active
        spec = self.tasks.resolve()[task]
        if spec.kind != "single_label" or spec.num_outputs != 2:
            raise ValueError(
                f"tasks.active: {task!r} is a {spec.kind} task of {spec.num_outputs} classes; a model in time tells "
                "frames where the second of two classes is present from those where it is absent"
            )
        return self

    @model_validator(mode="after")
    def _defined(self) -> InTimeConfig:
        import torch

        from mmpsr.temporal.build import create_temporal

        with torch.device("meta"):  # nothing is computed
            create_temporal(self.model, dict.fromkeys(self.data.modalities, 1), 2)
        return self


def is_in_time(tree: Mapping[str, Any], settings: Iterable[str] = ()) -> bool:
    """Tell whether a configuration is of a model in time, by the kind of its model.

    Args:
        tree: the file's content.
        settings: `section.key=value` over it.
    """
    model = tree.get("model")
    kind = model.get("kind") if isinstance(model, Mapping) else None
    for setting in settings:
        keys, value = parse_setting(setting)
        kind = value if list(keys) == ["model", "kind"] else kind
    return kind in IN_TIME


def require_choice_on_dev(monitor: str) -> None:
    """Refuse a monitored figure that is of test.

    Args:
        monitor: `training.monitor`.

    Raises:
        ConfigError: a part of its name is `test`.
    """
    if "test" in re.split(r"[/.]", monitor.casefold()):
        raise ConfigError(
            f"training.monitor = {monitor!r} names a figure of test: a model that is chosen by test has no test left. "
            "Name a figure of dev (`mean`, a task, or <corpus>/<task>/<metric>); test is evaluated once, at the end"
        )
