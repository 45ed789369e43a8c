import pytest
import torch

from mmpsr.adaptation.base import AdaptationConfig, LabeledTarget, Source, Target
from mmpsr.adaptation.build import METHODS, SECTIONS, create_method
from mmpsr.adaptation.network import FeatureNetwork
from mmpsr.adaptation.source import fit_source
from mmpsr.config import ConfigError

SMALL = AdaptationConfig.model_validate({"width": 8, "source": {"num_epochs": 6, "batch_size": 32}})


def rows(number: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 2
    return 10 + 3 * (torch.randn(number, 5, generator=generator) + 2 * labels.unsqueeze(1)), labels


def source() -> Source:
    features, labels = rows()
    return Source(features, labels, torch.zeros(len(labels), dtype=torch.int64))


def test_a_network_learns_and_follows_the_seed() -> None:
    features, labels = rows(seed=1)
    first = fit_source(source(), SMALL, seed=0)
    assert not first.training
    assert (first(features).argmax(dim=1) == labels).float().mean() > 0.9
    again, other = fit_source(source(), SMALL, seed=0), fit_source(source(), SMALL, seed=1)
    assert torch.equal(first(features), again(features))
    assert not torch.equal(first(features), other(features))


def test_making_a_network_leaves_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    fit_source(source(), SMALL, seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("scores", "kept"), [([1, 3, 3, 2, 0, 0], 2), ([5, 1, 1, 1, 1, 1], 0), ([float("nan")] * 6, 5)]
)
def test_the_best_epoch_is_kept_the_later_of_equals(scores: list[float], kept: int) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def score(network: FeatureNetwork) -> float:
        assert not network.training
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return scores[len(seen) - 1]

    found = fit_source(source(), SMALL, 0, score).state_dict()
    assert all(torch.equal(value, seen[kept][name]) for name, value in found.items())


def test_the_oracle_needs_labels_and_no_other_method_is_given_any() -> None:
    assert [name for name, method in METHODS.items() if method.uses_labels] == ["oracle"]
    assert [name for name, method in METHODS.items() if method.uses_source] == ["mmd", "subject"]
    assert not {"labels", "targets"} & set(Target.__dataclass_fields__)
    features, labels = rows(20)
    oracle = create_method("oracle", SMALL)
    with pytest.raises(TypeError, match="needs a LabeledTarget"):
        oracle.adapt(FeatureNetwork(5), Target(features), None, torch.Generator(), lambda _: None)
    network, epochs = FeatureNetwork(5, 8), list[int]()
    oracle.adapt(network, LabeledTarget(features, labels=labels), None, torch.Generator(), epochs.append)
    assert epochs == list(range(1, 11))


def test_source_only_changes_nothing() -> None:
    network, (features, _) = FeatureNetwork(5), rows(20)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    create_method("source", SMALL).adapt(network, Target(features), None, torch.Generator(), lambda _: None)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_misspelt_method_is_told() -> None:
    with pytest.raises(ConfigError, match="no method of adaptation is named 'shto'; did you mean 'shot'"):
        create_method("shto", SMALL)


def test_every_section_belongs_to_a_method() -> None:
    assert set(SECTIONS) == set(METHODS)
    fields = set(AdaptationConfig.model_fields) - {"form", "network", "source", "width", "statistics"}
    assert {name for names in SECTIONS.values() for name in names} == fields
