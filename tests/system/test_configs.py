"""Every configuration that ships is valid, and those that say so are the published settings."""

from argparse import Namespace
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import _filter_args, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from torch.distributed.launcher.api import LaunchConfig
from torch.distributed.run import config_from_args, get_args_parser

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


def accelerate_plan(file: str, *options: str) -> Namespace:
    """What `accelerate launch` makes of a file of `configs/accelerate`, and of options that stand behind it."""
    parser = launch_command_parser()
    words = ["--config_file", str(FOLDER / "accelerate" / file), *options, "training/run.py"]
    return _validate_launch_command(parser.parse_args(words))[0]


def torch_plan(file: str, *options: str) -> LaunchConfig:
    """What torch's launcher makes of that."""
    plan = accelerate_plan(file, *options)
    prepare_multi_gpu_env(plan)
    script = ["--training_script", plan.training_script, "--training_script_args", *plan.training_script_args]
    return config_from_args(_filter_args(plan, get_args_parser(), script))[0]


def test_every_file_for_accelerate_is_known_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    files = sorted(path.name for path in (FOLDER / "accelerate").iterdir())
    assert files == ["cpu.yaml", "one_gpu.yaml", "several_gpus.yaml", "slurm.yaml"]
    plans = {file: accelerate_plan(file) for file in files}
    assert [plan.use_cpu for plan in plans.values()] == [True, False, False, False]
    assert [plan.multi_gpu for plan in plans.values()] == [False, False, True, True]
    assert [plan.num_processes for plan in plans.values()] == [1, 1, 2, 8]
    assert {plan.mixed_precision for plan in plans.values()} == {"no"}
    assert prepare_simple_launcher_cmd_env(plans["cpu.yaml"])[1]["ACCELERATE_USE_CPU"] == "True"
    assert prepare_simple_launcher_cmd_env(plans["one_gpu.yaml"])[1]["CUDA_VISIBLE_DEVICES"] == "0"
    several = torch_plan("several_gpus.yaml", "--num_processes", "4", "--main_process_port", "0")
    assert (several.max_nodes, several.nproc_per_node) == (1, 4)
    job = "--machine_rank 2 --main_process_ip node7 --num_machines 3 --num_processes 12"
    node = torch_plan("slurm.yaml", *job.split())
    assert (node.min_nodes, node.max_nodes, node.nproc_per_node) == (3, 3, 4)
    assert (node.rdzv_backend, node.rdzv_endpoint, node.rdzv_configs["rank"]) == ("static", "node7:29500", 2)
