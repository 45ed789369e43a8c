"""What fusion models can be told."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from mmpsr.config import Config
from mmpsr.layers.attention.config import AttentionConfig
from mmpsr.layers.graph.config import PREFIX, GraphConfig

__all__ = ["ConflictAwareConfig", "FusionConfig", "ModelConfig"]


class FusionConfig(Config):
    """What every fusion model can be told."""

    reads_sequences: ClassVar[bool] = False
    """Whether the model pools modalities over time by itself, where they are kept over time."""
    linear_path: dict[str, Literal["fixed", "trained"]] = Field(default_factory=dict)
    """By task: add a linear model of the features, fitted before training, to every prediction, so that the network
    learns what it misses; `fixed` keeps it as fitted, `trained` lets it learn on."""


class ModelConfig(FusionConfig):
    """Width, layers and switches of the model."""

    kind: Literal["mcdm"] = "mcdm"
    """Projected modalities, a graph over them and cross-attention."""
    hidden_width: int = Field(default=256, ge=2)
    """H: width of a modality node."""
    head_width: int = Field(default=256, ge=1)
    """Width of the hidden layer in each task's head."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads."""
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Dropout rate everywhere but in graph layers."""
    graph_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Dropout rate after a graph layer's activation."""
    graph: (
        Literal["none", "gat", "ucgnn", "edgnn", "hgnn", "ncgnn"]
        | Annotated[str, StringConstraints(pattern=r"^pyg:\w+$")]
    ) = "ucgnn"
    """Graph layer over a clip's modalities; `pyg:` and a name, such as `pyg:GATv2Conv`, is that convolution of
    `torch_geometric.nn` (extra `graphs`)."""
    graph_options: GraphConfig = Field(default_factory=GraphConfig)
    """What single graph layers can be told; arguments of the class for a convolution of torch_geometric."""
    attention: Literal["none", "mha", "mta", "crossmpt", "bica", "fa"] = "mha"
    """Cross-attention from a task's nodes to the shared ones."""
    attention_options: AttentionConfig = Field(default_factory=AttentionConfig)
    """What single attention layers can be told."""
    guide_bank: bool = True
    """Average each head with the cosine similarity to class prototypes."""
    guides: Literal["learned", "texts", "tied"] = "learned"
    """What prototypes are: learned in the hidden space; or points of the text encoder's space, compared with a clip's
    words, that start at the embedded texts of the classes (`texts`), or stay there (`tied`). Tasks without texts have
    learned ones either way, and a clip without words is near to none."""
    guide_temperature: bool = False
    """Learn a factor on the cosine, which otherwise confines it to [-1, 1]; 1 at the start, near 0 beside a linear
    path."""
    own_trunks: tuple[str, ...] = ()
    """Tasks with projectors and a graph of their own in place of the shared ones, against negative transfer: only their
    own losses reach these, on labelled clips only, and balancing leaves them out."""
    task_projectors: bool = True
    """Give each task its own projection of every modality as queries."""
    predictor_norm: Literal["paper", "none"] = "paper"
    """Layer normalisation of width C in a task's predictor; at C = 2 it saturates and passes hardly any gradient, and
    at C = 1 it would leave a constant, so that there is none."""
    conflict_features: bool = False
    """Give each head, beside the pooled modalities, the mean difference between two of them."""
    text_head: bool = False
    """Give each task a second head that sees the text alone: an auxiliary loss, and a part of what is predicted."""
    text_share: float = Field(default=0.6, gt=0.0, lt=1.0)
    """Share of the text head in the predicted probability of clips with text."""

    @model_validator(mode="before")
    @classmethod
    def _arguments_of_a_class(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and "graph_options" in tree:
            return {**tree, "graph_options": GraphConfig.of_kind(tree.get("graph"), tree["graph_options"])}
        return tree

    @model_validator(mode="after")
    def _guides_are_used(self) -> ModelConfig:
        if self.guides != "learned" and not self.guide_bank:
            raise ValueError(
                f'guides = "{self.guides}" is of the guide bank, which guide_bank = false switches off; leave one out'
            )
        return self

    @model_validator(mode="after")
    def _graph_exists(self) -> ModelConfig:
        if self.graph.startswith(PREFIX):
            if find_spec("torch_geometric") is not None:  # what was trained elsewhere can be read without it
                from mmpsr.layers.graph.pyg import require_convolution

                require_convolution(self.graph.removeprefix(PREFIX), self.hidden_width, self.graph_options.pyg)
        elif self.graph_options.pyg:
            names = ", ".join(self.graph_options.pyg)
            raise ValueError(f'graph_options.pyg ({names}) is for graph = "{PREFIX}..."; found {self.graph!r}')
        return self


class ConflictAwareConfig(FusionConfig):
    """Widths and options of the conflict-aware model."""

    reads_sequences: ClassVar[bool] = True
    kind: Literal["conflict_aware"] = "conflict_aware"
    """Pooling by attention, differences between modalities, and a guide."""
    hidden_width: int = Field(default=768, ge=1)
    """H: width that every modality is mapped to; the fusion has 4 F^2 weights with F = 6 H for three modalities."""
    head_width: int = Field(default=512, ge=1)
    """Width of the hidden layer in each head."""
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Dropout rate in the fusion and in heads."""
    guide: str = "text"
    """Modality with a head of its own in every task, blended in at prediction; `none` for no such head."""
    guide_share: float = Field(default=0.6, gt=0.0, lt=1.0)
    """Share of the guide's head in the predicted probability of clips that have the modality."""
    window: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """By modality: consecutive elements of its sequence that the model sees at a time, from a random place in
    training; those left out are seen whole."""
    num_windows: int = Field(default=5, ge=1)
    """Windows that a prediction is averaged over, where there are any."""
