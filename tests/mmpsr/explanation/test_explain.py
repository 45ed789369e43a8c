"""Explanations of clips: what they hold, against the model's own parts computed another way."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmpsr.explanation.explain import explain, prediction_conflicts
from mmpsr.explanation.shapley import attribute, interaction_indices, subset_predictions
from mmpsr.models.base import FusionModel
from mmpsr.models.config import ModelConfig
from mmpsr.probabilities import probabilities
from tests.support import joined as small
from tests.support.four_modalities import AWARE_CONFIG, CALIBRATION, PRESENCE, WIDTHS, batch_of, model_of

SMALL = {"hidden_width": 8, "head_width": 8, "num_heads": 2}


def test_holds_contributions_and_predictions_of_single_modalities() -> None:
    model, batch = model_of(ModelConfig(**SMALL)), batch_of()
    found, subsets = explain(model, batch, CALIBRATION), subset_predictions(model, batch, CALIBRATION)
    expected = {task: attribute(values) for task, values in subsets.items()}
    assert [each.present for each in found] == [tuple(WIDTHS), ("video", "text"), ()]
    text_only = batch.with_presence(PRESENCE & torch.tensor([False, False, True, False]))
    for task, spec in model.tasks.items():
        outputs = probabilities(model(text_only).of(task).detach(), spec).double().numpy()
        from_text = CALIBRATION.apply(task, outputs)
        for row, each in enumerate(found):
            of_task = each.tasks[task]
            table = [list(of_task.shapley[name].values()) for name in WIDTHS]
            np.testing.assert_array_equal(table, expected[task].values[row])
            assert list(of_task.prediction) == list(spec.classes)
            assert list(of_task.prediction.values()) == expected[task].prediction[row].tolist()
            assert list(of_task.baseline.values()) == expected[task].baseline[row].tolist()
            assert tuple(of_task.alone) == each.present
            if "text" in each.present:
                np.testing.assert_allclose(list(of_task.alone["text"].values()), from_text[row], atol=1e-6)
    assert json.loads(json.dumps(found[0].to_dict(), allow_nan=False))["present"] == list(WIDTHS)


def test_interactions_of_a_clip_are_of_its_modalities() -> None:
    model, batch = model_of(ModelConfig(**SMALL)), batch_of()
    found, subsets = explain(model, batch, CALIBRATION), subset_predictions(model, batch, CALIBRATION)
    for task, values in subsets.items():
        expected = interaction_indices(values)
        pairs = found[0].tasks[task].interactions
        assert [(pair.first, pair.second) for pair in pairs] == list(combinations(WIDTHS, 2))
        np.testing.assert_array_equal([list(pair.values.values()) for pair in pairs], expected[:, 0])
        assert np.abs(expected[:, 0]).max() > 1e-6
        (pair,) = found[1].tasks[task].interactions  # of video and text alone: v(both) - v(video) - v(text) + v()
        of_task = found[1].tasks[task]
        for name, value in pair.values.items():
            alone = of_task.alone["video"][name] + of_task.alone["text"][name]
            assert value == pytest.approx(of_task.prediction[name] - alone + of_task.baseline[name], abs=1e-12)
        assert found[2].tasks[task].interactions == ()


def test_conflict_of_pairs_by_hand() -> None:
    tasks, mask = small.tasks(), torch.tensor([[True, True, False]])
    alone = np.array([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]])
    # 1/2 (0.7 + 0.7) of a distribution; pairs with the absent one count nothing
    np.testing.assert_allclose(prediction_conflicts(alone, mask, tasks["ambivalence"]), [[0.7, 0.0, 0.0]])
    scores = np.array([[[1.0, 0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.5, 0.5, 0.0], [0.0] * 5]])
    # (1 + 0 + 0 + 0 + 0.5)/5
    np.testing.assert_allclose(prediction_conflicts(scores, mask, tasks["personality"]), [[0.3, 0.0, 0.0]])
    several = tasks["emotion"].model_copy(
        update={"loss": "binary_cross_entropy", "classes": ("a", "b"), "neutral": None}
    )
    independent = np.array([[[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(prediction_conflicts(independent, mask, several), [[1.0, 0.0, 0.0]])  # no sum of 1


def test_conflicts_of_a_clip_are_of_its_modalities_and_ordered() -> None:
    found = explain(model_of(ModelConfig(**SMALL)), batch_of())
    for task in small.tasks():
        pairs = found[0].tasks[task].conflicts
        assert len(pairs) == 6
        assert [pair.value for pair in pairs] == sorted((pair.value for pair in pairs), reverse=True)
        assert 0 < pairs[0].value <= 1
        (pair,) = found[1].tasks[task].conflicts
        assert (pair.first, pair.second) == ("video", "text")
        alone = found[1].tasks[task].alone
        total = sum(abs(alone["video"][name] - alone["text"][name]) for name in alone["text"])
        assert pair.value == pytest.approx(total / (5 if task == "personality" else 2))
        assert found[1].tasks[task].mean_conflict == pair.value
        assert found[2].tasks[task].mean_conflict is None


def test_attention_and_prototypes_from_the_formulas() -> None:
    model, batch = model_of(ModelConfig(**SMALL)), batch_of()
    found = explain(model, batch)
    tower, shared = model.towers["ambivalence"], model.encode(batch)
    nodes, context = shared.ends
    queries = tower.graph(tower.projector(tower.predictor(nodes)), PRESENCE)
    for row, present in enumerate(PRESENCE[:2]):
        q = tower.attention.query(queries[row, present]).unflatten(1, (2, 4)).transpose(0, 1)
        k, v = (
            each.unflatten(1, (2, 4)).transpose(0, 1)
            for each in tower.attention.key_value(context[row, present]).chunk(2, dim=1)
        )
        weights = (q @ k.transpose(1, 2) / 2).softmax(dim=-1)  # sqrt(4)
        shares = weights.mean(dim=(0, 1)).tolist()
        attention = found[row].tasks["ambivalence"].attention
        assert attention is not None
        assert [attention[name] for name in found[row].present] == pytest.approx(shares, abs=1e-5)
        assert sum(attention.values()) == pytest.approx(1.0, abs=1e-5)
        assert [attention[name] for name in WIDTHS if name not in found[row].present] == [0.0] * (
            4 - int(present.sum())
        )
        pooled = tower.attention.output((weights @ v).transpose(0, 1).flatten(1)).mean(dim=0)
        cosines = functional.cosine_similarity(pooled.unsqueeze(0), tower.guides).tolist()
        guides = found[row].tasks["ambivalence"].guides
        assert guides is not None
        assert guides[0].cosine >= guides[1].cosine
        by_name = {guide.name: guide.cosine for guide in guides}
        assert [by_name[name] for name in ("absent", "present")] == pytest.approx(cosines, abs=1e-5)


def test_prototypes_that_are_texts_are_compared_with_words() -> None:
    points = {"emotion": {"text": torch.randn(1, 7, 4, generator=torch.Generator().manual_seed(2))}}
    model, batch = model_of(ModelConfig(**SMALL, guides="texts", attention="none"), guide_points=points), batch_of()
    near = model.towers["emotion"].text_guides(batch.features, PRESENCE)
    for row, each in enumerate(explain(model, batch)):
        guides = each.tasks["emotion"].guides
        assert guides is not None
        found = {guide.name: guide.cosine for guide in guides}
        assert [found[name] for name in model.tasks["emotion"].classes] == pytest.approx(near[row].tolist(), abs=1e-5)
    assert near[:2].abs().min() > 0
    assert not near[2].any()


@pytest.mark.parametrize("attention", ["mha", "mta", "crossmpt", "bica", "fa"])
def test_every_attention_gives_shares(attention: str) -> None:
    model = model_of(ModelConfig(**SMALL, attention=attention))
    for each in explain(model, batch_of()):
        shares = each.tasks["emotion"].attention
        assert shares is not None
        if attention != "mta":
            assert sum(shares.values()) == pytest.approx(1.0 if each.present else 0.0, abs=1e-5)
        assert all((shares[name] != 0.0) == (name in each.present) for name in WIDTHS)
        assert each.tasks["emotion"].notes == ()


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        ("switched off", ("no attention: its cross-attention is switched off",
                          "no prototypes: the model has no guide bank")),
        ("conflict_aware", ("no attention: it fuses without attending over modalities",
                            "no prototypes: the model has no guide bank")),
    ],
)  # fmt: skip
def test_says_why_something_is_not_there(kind: str, notes: tuple[str, ...]) -> None:
    if kind == "conflict_aware":
        model: FusionModel = model_of(AWARE_CONFIG, {"audio": 2})
    else:
        model = model_of(ModelConfig(**SMALL, attention="none", guide_bank=False))
    for each in explain(model, batch_of(with_sequences=kind == "conflict_aware")):
        for task in each.tasks.values():
            assert (task.attention, task.guides, task.notes) == (None, None, notes)


def test_leaves_the_model_as_it_was() -> None:
    model, batch = model_of(ModelConfig(**SMALL)), batch_of()
    before = model(batch).of("emotion")
    explain(model, batch)
    assert torch.equal(model(batch).of("emotion"), before)
    assert not any(layer._forward_hooks for layer in model.modules())
