from __future__ import annotations

from pathlib import Path

import pytest

from mmpsr.config import ConfigError
from mmpsr.prototypes.texts import SHIPPED, WORDINGS, Meaning, TaskTexts, read_task_texts
from mmpsr.tasks import BUILTIN_TASKS


@pytest.mark.parametrize("task", BUILTIN_TASKS)
def test_texts_of_every_task_ship_in_all_wordings(task: str) -> None:
    texts, spec = read_task_texts(task), BUILTIN_TASKS[task]
    texts.require_classes(spec.classes, task)
    assert set(SHIPPED) == set(BUILTIN_TASKS)
    for meaning in texts.texts.values():
        assert (meaning.opposite is not None) == (spec.kind == "regression")
        for pole in (meaning, meaning.opposite):
            assert pole is None or all(pole.wording(kind, texts.templates) for kind in WORDINGS)


def test_templates_are_filled_and_those_that_want_an_adjective_left_out_without_one() -> None:
    templates = ("{name} is here.", "I am {adjective}.")
    assert Meaning(name="joy", adjective="glad").wording("templates", templates) == ("Joy is here.", "I am glad.")
    assert Meaning(name="joy").wording("templates", templates) == ("Joy is here.",)
    assert Meaning(name="joy", phrases=("Yes!",)).wording("phrases", templates) == ("Yes!",)


def test_errors_say_where_and_what(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--task-texts: 'emotoin' is neither a file nor .*emotion"):
        read_task_texts("emotoin", "--task-texts")
    file = tmp_path / "mood.toml"
    file.write_text('templates = ["{noun}"]\n[texts.good]\nname = "good"\n')
    with pytest.raises(ConfigError, match=r"mood.toml.*'\{noun\}' cannot be filled"):
        read_task_texts(file)
    file.write_text("[texts.good]\nname = ")
    with pytest.raises(ConfigError, match=r"mood.toml is not TOML"):
        read_task_texts(file)
    texts = TaskTexts.model_validate({"texts": {"good": {"name": "good"}}})
    with pytest.raises(ConfigError, match=r"mood: there is no text of 'bad'; found \['good'\]"):
        texts.require_classes(("good", "bad"), "mood")
