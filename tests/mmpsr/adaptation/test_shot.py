import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from mmpsr.adaptation import AdaptationConfig, FeatureNetwork, Target, create_method, shot
from mmpsr.adaptation.shot import centroid_labels, information_term

FEATURES = torch.tensor([[1.0, 0.0], [0.9, 0.2], [0.0, 1.0], [0.3, 0.8]])


def both(present: list[float]) -> torch.Tensor:
    second = torch.tensor(present)
    return torch.stack([1 - second, second], dim=1)


def test_the_information_term_by_hand() -> None:
    # mean of H(.9, .1) and H(.4, .6), less H(.65, .35), with 1e-5 in every logarithm
    assert float(information_term(both([0.1, 0.6]))) == pytest.approx(0.499027 - 0.647427, abs=2e-6)
    assert torch.isfinite(information_term(both([0.0, 1.0])))


def test_pseudo_labels_of_a_known_case() -> None:
    # the second row looks absent to the classifier, the third too; their features decide
    assert centroid_labels(FEATURES, both([0.1, 0.4, 0.3, 0.8])).tolist() == [0, 0, 1, 1]


def test_pseudo_labels_against_two_rounds_by_hand() -> None:
    generator = np.random.default_rng(0)
    features, probabilities = generator.normal(size=(30, 4)), generator.dirichlet([1, 1], size=30)
    units = np.concatenate([features, np.ones((30, 1))], axis=1)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    weights = probabilities
    for _ in range(2):
        centroids = weights.T @ units / weights.sum(axis=0)[:, None]
        labels = cdist(units, centroids, "cosine").argmin(axis=1)
        weights = np.eye(2)[labels]
    found = centroid_labels(torch.from_numpy(features), torch.from_numpy(probabilities))
    assert found.tolist() == labels.tolist()


def test_a_class_that_no_row_has_gets_no_row() -> None:
    assert centroid_labels(FEATURES, both([0.1, 0.2, 0.3, 0.4])).tolist() == [0, 0, 0, 0]


def test_the_classifier_stays_and_pseudo_labels_are_made_fifteen_times(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, calls = FeatureNetwork(4, bottleneck=3), []

    def counted(features: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        calls.append(len(features))
        return centroid_labels(features, probabilities)

    monkeypatch.setattr(shot, "centroid_labels", counted)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = AdaptationConfig.model_validate({"source_free": {"num_epochs": 30, "batch_size": 8}})
    epochs: list[int] = []
    create_method("shot", config).adapt(network, Target(torch.randn(17, 4)), None, torch.Generator(), epochs.append)
    # 17 rows are two batches, the last row is left out: 60 steps, every fourth makes labels of all 17 rows
    assert calls == [17] * 15
    assert epochs == list(range(1, 31))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"bottleneck"}
    assert all(each.requires_grad for each in network.classifier.parameters())


def test_statistics_of_the_source_stay_where_that_is_asked_for() -> None:
    for statistics, stay in (("source", True), ("target", False)):
        torch.manual_seed(0)
        network = FeatureNetwork(4, bottleneck=3)
        config = AdaptationConfig.model_validate({"statistics": statistics})
        create_method("shot", config).adapt(
            network, Target(torch.randn(20, 4) + 3), None, torch.Generator(), lambda _: None
        )
        assert torch.equal(network.bottleneck[1].running_mean, torch.zeros(3)) == stay  # type: ignore[arg-type]


def test_a_single_row_changes_nothing() -> None:
    network = FeatureNetwork(4, bottleneck=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for name in ("shot", "nrc"):
        create_method(name, AdaptationConfig()).adapt(
            network, Target(torch.randn(1, 4)), None, torch.Generator(), lambda _: None
        )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
