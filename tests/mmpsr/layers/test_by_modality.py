from __future__ import annotations

import pytest
import torch
from torch import nn

from mmpsr.batch import Batch
from mmpsr.layers.by_modality import ByModality, module_name
from mmpsr.layers.standardizer import restored, stored_widths
from mmpsr.models.build import create_model
from mmpsr.models.config import ConflictAwareConfig, ModelConfig
from mmpsr.tasks import AMBIVALENCE
from mmpsr.temporal.build import create_temporal, restore_temporal
from mmpsr.temporal.config import TemporalConfig

VIEWS = {"text": 4, "text.lexica": 3, "behavior.lexica": 3}
PLAIN = {"text": 4, "video": 3, "behavior": 3}
CONFIGS = (ModelConfig(hidden_width=8, head_width=8, num_heads=2), ConflictAwareConfig(hidden_width=4, head_width=4))


def test_names_have_a_dot_outside_and_none_inside() -> None:
    modules = ByModality({name: nn.Linear(width, 1, bias=False) for name, width in VIEWS.items()})
    assert list(modules) == list(modules.keys()) == [name for name, _ in modules.items()] == list(VIEWS)
    assert [name for name, _ in modules.named_children()] == ["text", "text__lexica", "behavior__lexica"]
    assert "text.lexica" in modules
    assert "video.lexica" not in modules
    assert modules["text.lexica"] is list(modules.values())[1]
    assert set(modules.state_dict()) == {f"{module_name(name)}.weight" for name in VIEWS}
    with pytest.raises(KeyError):
        modules["audio"]


def batch(widths: dict[str, int]) -> Batch:
    torch.manual_seed(0)
    features = {name: torch.randn(4, width) for name, width in widths.items()}
    presence = torch.tensor([[True, True, True], [True, False, True], [False, False, True], [True, True, False]])
    return Batch(features, presence)


@pytest.mark.parametrize("config", CONFIGS, ids=["mcdm", "conflict_aware"])
def test_a_model_with_views_predicts_what_one_of_other_names_does(
    config: ModelConfig | ConflictAwareConfig,
) -> None:
    tasks = {"ambivalence": AMBIVALENCE}
    models = []
    for widths in (VIEWS, PLAIN):
        torch.manual_seed(1)
        models.append(create_model(config, widths, tasks).eval())
    views, plain = (model(batch(widths)) for model, widths in zip(models, (VIEWS, PLAIN), strict=True))
    torch.testing.assert_close(views.logits["ambivalence"], plain.logits["ambivalence"], rtol=0, atol=0)
    weights = models[0].state_dict()
    assert stored_widths(weights) == VIEWS
    again = restored(lambda widths: create_model(config, widths, tasks), list(VIEWS), weights)
    torch.testing.assert_close(again(batch(VIEWS)).logits["ambivalence"], views.logits["ambivalence"], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["frame", "tcn", "lfan", "can", "jmt_extended"])
def test_models_in_time_take_views(kind: str) -> None:
    names = {"video": 3, "video.grey": 2}
    config = TemporalConfig.model_validate(
        {"kind": kind, **({} if kind == "frame" else {"channels": {"video": [4], "video.grey": [4]}})}
    )
    torch.manual_seed(0)
    model = create_temporal(config, names, 2).eval()
    features, mask = {name: torch.randn(2, 9, width) for name, width in names.items()}, torch.ones(2, 9).bool()
    again = restore_temporal(config, tuple(names), 2, model.state_dict())
    torch.testing.assert_close(again(features, mask), model(features, mask))
    assert TemporalConfig(kind="tcn").channels_of(names)["video.grey"] == (256, 256, 128, 128)  # those of video
