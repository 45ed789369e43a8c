"""Studies that ship are valid, switch what they say, name encoders that exist, and fit other bases."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoders.config import DESCRIPTION_PROMPTS
from encoders.creation import CATALOGUE, WRITERS
from mmpsr.config import ConfigError
from tuning.study.config import Study, load_study

FOLDER = Path(__file__).parents[3] / "configs"
NUM_ROWS = {
    "table1": 17, "table2": 20, "layers": 30, "balancing": 15, "semi_supervision": 17, "cross_corpus": 10,
    "transfer": 7, "prompts": 4, "describers": 4, "encoders_video": 10, "encoders_audio": 9, "encoders_text": 12,
    "encoders_behavior": 17, "cost": 15, "conflict_aware": 15,
}  # fmt: skip
CROSS_VALIDATED = ("text_cross_validation", "text_views", "label_distributions", "few_labels")


def shipped(name: str, base: str | None = None) -> Study:
    return load_study(FOLDER / "studies" / f"{name}.toml", (), [0], None if base is None else FOLDER / base)


def test_every_shipped_study_is_counted() -> None:
    assert {path.stem for path in (FOLDER / "studies").glob("*.toml")} == {*NUM_ROWS, *CROSS_VALIDATED}


def test_the_cross_validation_tests_every_fold_with_three_seeds() -> None:
    study = load_study(FOLDER / "studies/text_cross_validation.toml")
    assert (len(study.rows), len(study.cells), study.config.folds, study.inapplicable) == (14, 210, 5, {})
    trained = {cell.row: cell.config.corpora.trained() for cell in study.cells}
    assert (trained["joint"], trained["emotion alone"]) == (("mosei", "fiv2"), ("mosei",))
    folds = [cell.config.corpora.sources["mosei"].fold for cell in study.cells if cell.row == "joint"]
    assert [fold.number for fold in folds if fold] == [0, 1, 2, 3, 4] * 3


def test_distributional_labels_change_losses_alone_and_sentiment_adds_a_task_and_its_corpus() -> None:
    study = load_study(FOLDER / "studies/label_distributions.toml")
    assert (len(study.rows), len(study.cells), study.config.folds, study.inapplicable) == (11, 55, 5, {})
    losses = {cell.row: tuple(spec.loss for spec in cell.config.tasks.resolve().values()) for cell in study.cells}
    assert losses == {
        "joint": ("binary_cross_entropy", "mae"),
        "soft targets": ("soft_binary_cross_entropy", "mae"),
        "gaussian likelihood": ("binary_cross_entropy", "gaussian_nll"),
        "laplace likelihood, beta 0.5": ("binary_cross_entropy", "laplace_nll"),
        "soft targets and gaussian likelihood": ("soft_binary_cross_entropy", "gaussian_nll"),
        "sentiment beside": ("binary_cross_entropy", "mae", "cross_entropy"),
        "emotion alone": ("binary_cross_entropy",),
        "emotion alone, soft targets": ("soft_binary_cross_entropy",),
        "personality alone": ("mae",),
        "personality alone, gaussian likelihood": ("gaussian_nll",),
        "personality alone, laplace likelihood, beta 0.5": ("laplace_nll",),
    }
    trained = {cell.row: cell.config.corpora.trained() for cell in study.cells}
    assert (trained["joint"], trained["sentiment beside"]) == (("mosei", "fiv2"), ("mosei", "fiv2", "utterances"))


def test_cells_of_learning_curves_share_clips_and_labels_by_number_and_seed() -> None:
    """What is trained with fewer labels has another linear baseline; methods of one number and seed have the same."""
    study = load_study(FOLDER / "studies/few_labels.toml")
    assert (len(study.rows), len(study.cells), study.inapplicable) == (21, 105, {})
    keys = {(cell.row, cell.seed): cell.data_key for cell in study.cells}
    assert len(set(keys.values())) == (5 + 2) * 5
    assert keys["50 labels", 0] == keys["50 labels, propagation", 0] == keys["50 labels, mean teacher", 0]
    seeds = load_study(FOLDER / "studies/few_labels.toml", (), [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]).cells
    assert len({cell.data_key for cell in seeds if cell.row == "50 labels"}) == 10  # folds come twice, labels do not
    numbers = {cell.row: cell.config.data.num_labeled for cell in study.cells}
    assert numbers["200 labels, mean teacher"] == {"emotion": 200, "personality": 200}
    assert numbers["1000 labels"] == {"personality": 1000}


@pytest.mark.parametrize("name", NUM_ROWS)
def test_every_shipped_study_is_valid(name: str) -> None:
    if name in ("balancing", "cost", "layers"):
        pytest.importorskip("torch_geometric" if name == "layers" else "torchjd")
    study = shipped(name)
    assert (len(study.rows), len(study.cells)) == (NUM_ROWS[name], NUM_ROWS[name])
    assert study.inapplicable == {}
    assert study.config.compare_to in study.rows
    for cell in study.cells:
        for modality in cell.config.data.modalities:
            encoder = cell.config.features.encoders[modality]
            assert modality in CATALOGUE[encoder].modalities, cell.row
        describer = cell.config.features.describer
        if describer is not None:
            assert describer.model in WRITERS
            assert describer.prompt in DESCRIPTION_PROMPTS


def test_rows_of_the_published_table_switch_what_they_say() -> None:
    configs = {cell.row.partition(" ")[0]: cell.config for cell in shipped("table1").cells}
    assert list(configs) == [str(number) for number in range(1, 18)]
    full = configs["6"]
    assert (full.model.graph, full.model.attention, full.model.guide_bank) == ("ucgnn", "mha", True)  # type: ignore[union-attr]
    assert full.balancing.pseudo_weight == 0.3
    assert full.model.linear_path == {}
    assert {task: spec.threshold for task, spec in full.tasks.resolve().items()} == dict.fromkeys(
        full.tasks.active, 0.6
    )
    changed = {}
    for number in range(7, 18):
        ours, theirs = configs[str(number)].model_dump(), full.model_dump()
        changed[number] = [
            f"{section}.{key}"
            for section in ours
            for key in ours[section]
            if ours[section][key] != theirs[section][key]
        ]
    assert changed == {
        **{7: ["model.task_projectors"], 8: ["model.graph"], 9: ["model.attention"], 10: ["model.guide_bank"]},
        **{number: ["data.modalities"] for number in range(11, 15)},
        **{number: ["tasks.active"] for number in range(15, 18)},
    }
    assert "behavior" not in configs["14"].data.modalities
    assert "ambivalence" not in configs["17"].tasks.active


def test_the_first_rows_of_the_published_table_are_those_that_were_printed() -> None:
    for base in (None, "paper.toml"):
        configs = [cell.config for cell in shipped("table1", base).cells[:6]]
        models = [config.model for config in configs]
        assert [model.graph for model in models] == ["gat", "gat", *["ucgnn"] * 4]  # type: ignore[union-attr]
        assert [model.attention for model in models] == [*["mha"] * 3, "mta", "mha", "mha"]  # type: ignore[union-attr]
        assert [model.hidden_width for model in models] == [256, 256, 256, 256, 512, 512]
        assert [model.head_width for model in models] == [256, 256, 256, 256, 512, 512]  # type: ignore[union-attr]
        assert [model.dropout for model in models] == [0.2, 0.2, 0.2, 0.2, 0.15, 0.15]
        assert [config.training.scheduler for config in configs] == [*["none"] * 4, "plateau", "plateau"]
        assert [config.balancing.method for config in configs] == [*["fixed"] * 5, "gradnorm"]
        assert [config.balancing.pseudo_weight for config in configs] == [1.0] * 5 + [0.3]
        assert {config.semi_supervision.method for config in configs} == {"paper"}
        thresholds = [[spec.threshold for spec in config.tasks.resolve().values()] for config in configs]
        assert thresholds == [[0.8, 0.5, 0.8]] * 5 + [[0.6, 0.6, 0.6]]
        encoders = [config.features.encoders for config in configs]
        assert encoders[1:] == [encoders[1]] * 5
        changed = {name: used for name, used in encoders[0].items() if used != encoders[1][name]}
        assert changed == (
            {"text": "minilm-context"}
            if base is None
            else {"text": "laion/clap-htsat-fused", "behavior": "openai/clip-vit-base-patch32"}
        )


def test_the_published_table_on_text_leaves_out_what_text_does_not_have() -> None:
    study = shipped("table1", "text_tables.toml")
    assert set(study.inapplicable) == {"11 without video", "12 without audio", "17 without ambivalence"}
    assert study.inapplicable["12 without audio"] == "there is no modality, task or corpus audio"
    configs = {cell.row: cell.config for cell in study.cells}
    assert len(configs) == 14
    assert configs["13 without text"].data.modalities == (
        "behavior",
        "behavior.lexica",
        "behavior.empath",
        "behavior.layers",
    )
    assert configs["15 without emotion"].tasks.active == ("personality",)
    full = configs["6 full"]
    assert (full.balancing.method, full.semi_supervision.method) == ("gradnorm", "paper")
    assert (full.training.monitor, full.training.modality_dropout) == ("mean", 0.0)
    assert study.name == "table1-text_tables"
    assert study.folder.name == "table1-text_tables"  # beside, not over, what the study's own base gave


def test_trained_corpora_of_the_cross_corpus_matrix() -> None:
    configs = {cell.row: cell.config for cell in shipped("cross_corpus").cells}
    everything = ("mosei", "fiv2", "bah", "meld")
    assert all(tuple(config.corpora.sources) == everything for config in configs.values())  # all are tested
    assert {row: (config.corpora.trained(), len(config.tasks.active)) for row, config in configs.items()} == {
        "all": (everything, 3),
        "without mosei": (("fiv2", "bah", "meld"), 3),
        "without fiv2": (("mosei", "bah", "meld"), 2),
        "without bah": (("mosei", "fiv2", "meld"), 2),
        "without meld": (("mosei", "fiv2", "bah"), 3),
        "mosei alone": (("mosei",), 1),
        "fiv2 alone": (("fiv2",), 1),
        "bah alone": (("bah",), 1),
        "meld alone": (("meld",), 1),
        "mosei and meld": (("mosei", "meld"), 1),
    }


def test_every_set_of_tasks_is_in_the_transfer_study() -> None:
    sets = {frozenset(cell.config.tasks.active) for cell in shipped("transfer").cells}
    assert len(sets) == 2**3 - 1
    study = shipped("transfer", "text_tables.toml")
    assert study.inapplicable["emotion and personality"] == (
        "on text_tables.toml it is the same configuration as row 'all'"
    )


def test_a_modality_goes_with_its_views(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    views = '"features.encoders" = { "text.lexica" = "lexica", "behavior.lexica" = "lexica" }'
    modalities = '"data.modalities" = ["text", "text.lexica", "behavior", "behavior.lexica"]'
    kept = {
        'without = ["text"]': ("behavior", "behavior.lexica"),
        'without = ["text.lexica", "behavior"]': ("text",),
        'only = ["text"]': ("text", "text.lexica"),
        'only = ["behavior"]\nwithout = ["behavior.lexica"]': ("behavior",),
        'only = ["text.lexica", "behavior.lexica"]': ("text.lexica", "behavior.lexica"),
        """settings = ['features.encoders."text.lexica"=minilm-context', 'data.modalities=["text.lexica"]']""": (
            "text.lexica",
        ),
    }
    rows = "".join(f'[[rows]]\nname = "{number}"\n{row}\n' for number, row in enumerate(kept))
    path.write_text(f'base = "x.toml"\nseeds = [0]\n[settings]\n{views}\n{modalities}\n{rows}', encoding="utf-8")
    cells = load_study(path, base=FOLDER / "text_tables.toml").cells
    assert [cell.config.data.modalities for cell in cells] == list(kept.values())
    assert cells[-1].config.features.encoders["text.lexica"] == "minilm-context"


def test_a_row_that_others_are_compared_with_cannot_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    rows = '[[rows]]\nname = "a"\nwithout = ["video"]\n[[rows]]\nname = "b"\n'
    path.write_text(f'base = "x.toml"\ncompare_to = "a"\n{rows}', encoding="utf-8")
    base = FOLDER / "text_tables.toml"
    with pytest.raises(ConfigError, match="row 'a' cannot be left out: there is no modality, task or corpus video"):
        load_study(path, base=base)
    path.write_text(f'base = "x.toml"\n{rows}only = ["nobody"]', encoding="utf-8")
    with pytest.raises(ConfigError, match="row 'a' cannot be left out"):  # nothing remains
        load_study(path, base=base)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('without = ["text", "behavior"]', "no modality would be left"),
        ('only = ["emotion"]\nwithout = ["emotion"]', "no task would be left"),
        ('without = ["mosei", "fiv2"]', "no corpus would be left"),
        ('without = ["txt", "text", "vdeo"]', "there is no modality, task or corpus txt or vdeo"),
    ],
)
def test_rows_that_leave_nothing_or_name_nothing_do_not_apply(tmp_path: Path, row: str, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "x.toml"\n[[rows]]\nname = "a"\n[[rows]]\nname = "b"\n{row}', encoding="utf-8")
    assert load_study(path, base=FOLDER / "text_tables.toml").inapplicable == {"b": reason}


def test_settings_of_the_command_line_come_before_what_rows_take_away(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "x.toml"\n[[rows]]\nname = "a"\nwithout = ["text"]', encoding="utf-8")
    study = load_study(path, ['data.modalities=["audio","text"]'], base=FOLDER / "demo.toml")
    assert study.cells[0].config.data.modalities == ("audio",)
