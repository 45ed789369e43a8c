"""Every configuration that ships is valid, and those that say so are the published settings."""

from pathlib import Path

import pytest

from mmpsr.config import load_config, read_toml
from training.config import RunConfig
from training.published_config import load_any_config
from training.zero_shot.config import ZeroShotRunConfig
from training.zero_shot.prompts import BAH_PROMPTS, prompts_to_ask

FOLDER = Path(__file__).parents[2] / "configs"


def test_the_zero_shot_configuration_is_valid() -> None:
    config = load_config(ZeroShotRunConfig, FOLDER / "zero_shot.toml")
    spec = config.tasks.resolve()[config.zero_shot.task]
    assert [prompt.name for prompt in prompts_to_ask(config.zero_shot.task, spec, config.zero_shot)] == [*BAH_PROMPTS]
    assert config.corpora.sources.keys() == {"bah"}


TRAINED = sorted(path for path in FOLDER.glob("*.toml") if path.stem != "zero_shot")


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_it_is_valid(path: Path) -> None:
    config, _ = load_any_config(path)
    tasks = config.tasks.resolve()
    assert set(config.data.modalities) <= set(config.features.encoders)
    assert tasks
    for line in path.read_text().splitlines():
        assert len(line) <= 160
    assert not any(Path(str(value)).is_absolute() for value in (config.corpora.root, config.features.store))
    assert "root" in read_toml(path)["corpora"]


def test_the_papers_settings_are_the_published_ones() -> None:
    config = load_config(RunConfig, FOLDER / "paper.toml")
    model = config.model
    assert (model.hidden_width, model.head_width, model.num_heads, model.dropout) == (512, 512, 8, 0.15)
    assert (model.graph, model.attention, model.guide_bank, model.task_projectors) == ("ucgnn", "mha", True, True)
    assert (model.predictor_norm, model.graph_dropout) == ("paper", 0.2)
    balancing = config.balancing
    assert (balancing.alpha_supervised, balancing.alpha_pseudo, balancing.pseudo_weight) == (1.25, 1.0, 0.3)
    assert (balancing.rate_supervised, balancing.rate_pseudo, balancing.weight_floor) == (0.01, 0.005, 1e-3)
    assert {name: spec.threshold for name, spec in config.tasks.resolve().items()} == {
        "emotion": 0.6,
        "personality": 0.6,
        "ambivalence": 0.6,
    }
    training = config.training
    assert (training.optimizer, training.lr, training.weight_decay, training.batch_size) == ("adam", 1e-4, 1e-5, 32)
    assert (training.scheduler, training.num_epochs, training.patience) == ("plateau", 100, 15)
