"""The origin of a model: what it was trained on and how good it was on test, in a line that stands over predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from corpora.demo.frames import FOLDER
from corpora.registry import CorporaConfig, generated_corpora
from training.runs.directory import read_json
from training.scoring.tables import metric_name

__all__ = ["GENERATED", "CorpusOrigin", "MainFigure", "Origin", "main_figures", "run_origin", "sources_of"]

GENERATED = "generated clips"
"""What corpora that a program made are called, whichever layout they have."""


@dataclass(frozen=True)
class CorpusOrigin:
    """A corpus of a model.

    Attributes:
        name: in the run's configuration.
        zero_shot: evaluated only.
        generated: a program made its clips, which therefore say nothing about people.
        num_trained: training clips; None where it is not stored.
    """

    name: str
    zero_shot: bool
    generated: bool
    num_trained: int | None = None


@dataclass(frozen=True)
class MainFigure:
    """The first metric of a task on a corpus, in percent; None where it is not stored or undefined.

    Attributes:
        corpus: its name.
        split: `test`, or `dev` of a corpus without labelled test clips.
        task: its name.
        metric: its name.
        num_clips: labelled clips.
        model: of the model.
        linear: of the linear baseline.
        chance: of the model's predictions dealt out at random.
    """

    corpus: str
    split: str
    task: str
    metric: str
    num_clips: int
    model: float | None
    linear: float | None
    chance: float | None


@dataclass(frozen=True)
class Origin:
    """What a run or a bundle stores of where its model comes from.

    Attributes:
        name: of the run.
        corpora: those trained or evaluated on; empty where none is stored.
        figures: one by corpus and task.
    """

    name: str
    corpora: tuple[CorpusOrigin, ...] = ()
    figures: tuple[MainFigure, ...] = ()

    @property
    def trained(self) -> tuple[CorpusOrigin, ...]:
        """Corpora that the model was trained on."""
        return tuple(corpus for corpus in self.corpora if not corpus.zero_shot)

    @property
    def is_generated(self) -> bool:
        """Whether a program made all clips that the model was trained on."""
        return bool(self.trained) and all(corpus.generated for corpus in self.trained)

    def line(self, name: str) -> str:
        """Write the line, the warning first where the model tells nothing about people.

        Args:
            name: by which the model was opened.

        Example:
            >>> Origin("own/1", (CorpusOrigin("own", False, False, 36),)).line("bundle")
            'Model bundle (run own/1), trained on 36 clips of own. No test figures are stored.'
        """
        model = self.name if self.name.split("/")[-1] == name else f"{name} (run {self.name})"
        if self.is_generated:
            first = (
                f"Trained on generated clips and tells nothing about people: model {model}, "
                f"{_count([corpus.num_trained for corpus in self.trained])} that a program made."
            )
        elif self.trained:
            first = f"Model {model}, {self._clips()}."
        else:
            first = f"Model {model}: what it was trained on is not stored."
        return f"{first} {self._test()}"

    def to_dict(self) -> dict[str, Any]:
        """Make JSON values."""
        return {
            "name": self.name, "generated": self.is_generated, "corpora": [asdict(corpus) for corpus in self.corpora],
            "figures": [asdict(figure) for figure in self.figures],
        }  # fmt: skip

    def _clips(self) -> str:
        real = [corpus for corpus in self.trained if not corpus.generated]
        made = [corpus.num_trained for corpus in self.trained if corpus.generated]
        text = f"trained on {_count([corpus.num_trained for corpus in real])} of {real[0].name}"
        if len(real) > 1:
            numbers = ", ".join(
                corpus.name if corpus.num_trained is None else f"{corpus.name} {corpus.num_trained}" for corpus in real
            )
            text = f"trained on {_count([corpus.num_trained for corpus in real])} ({numbers})"
        return text + (f" and on {_count(made)} that a program made, which tell nothing about people" if made else "")

    def _test(self) -> str:
        figures = [_figure(figure, self.corpora) for figure in self.figures if figure.model is not None]
        return f"Test: {'; '.join(figures)}." if figures else "No test figures are stored."


def _count(numbers: Sequence[int | None]) -> str:
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return "an unknown number of clips"
    return f"{sum(known)} clip{'' if sum(known) == 1 else 's'}"


def _figure(figure: MainFigure, corpora: Sequence[CorpusOrigin]) -> str:
    corpus = next((corpus for corpus in corpora if corpus.name == figure.corpus), None)
    places = [GENERATED if corpus is not None and corpus.generated else figure.corpus]
    places += [f"{figure.split} clips"] if figure.split != "test" else []
    places += ["never trained on"] if corpus is not None and corpus.zero_shot else []
    others = [
        f"{name} not stored" if value is None else f"{name} {value:.1f}"
        for name, value in (("linear baseline", figure.linear), ("chance", figure.chance))
    ]
    name = metric_name(figure.metric)
    return f"{figure.task} ({', '.join(places)}) {name} {figure.model:.1f} % ({', '.join(others)})"


def main_figures(rows: Sequence[Mapping[str, Any]]) -> tuple[MainFigure, ...]:
    """Take the first metric of each task on each corpus: of test, of dev where a corpus has no labelled test clip.

    Args:
        rows: with the fields of `MainFigure`, in the order of metrics.
    """
    tested = {row["corpus"] for row in rows if row["split"] == "test"}
    figures: dict[tuple[str, str], MainFigure] = {}
    for row in rows:
        if row["split"] == "test" or (row["split"] == "dev" and row["corpus"] not in tested):
            values = {name: _number(row.get(name)) for name in ("model", "linear", "chance")}
            place = (str(row["corpus"]), str(row["task"]))
            figures.setdefault(
                place, MainFigure(place[0], row["split"], place[1], row["metric"], int(row["num_clips"]), **values)
            )
    return tuple(figures.values())


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def sources_of(config: CorporaConfig, data: Mapping[str, Any] | None) -> tuple[CorpusOrigin, ...]:
    """Describe the corpora of a run.

    Args:
        config: its corpora.
        data: its `data.json`; None where it has none. Runs that do not say there which corpora were generated are
            judged by their configuration and by what lies where it says.
    """
    data = {} if data is None else data
    counts = {row["corpus"]: row["num_clips"] for row in data.get("clips", ()) if row["split"] == "train"}
    generated = set(data["generated"] if "generated" in data else generated_corpora(config))
    if config.build == "demo":  # all that lies below the root was built there
        own = ((name, Path(source.path)) for name, source in config.sources.items())
        generated |= {name for name, path in own if not path.is_absolute() and ".." not in path.parts}
    elif config.build != "none":
        generated |= {name for name, source in config.sources.items() if Path(source.path).parts[:1] == (FOLDER,)}
    blank = 0 if data.get("clips") else None
    return tuple(
        CorpusOrigin(name, source.zero_shot, name in generated, counts.get(name, blank))
        for name, source in config.sources.items()
    )


def run_origin(path: Path, config: CorporaConfig) -> Origin:
    """Read where the model of a run comes from.

    Args:
        path: run directory; what it lacks is said to be not stored.
        config: its corpora.

    Raises:
        RunError: a file of it cannot be read.
    """
    data = read_json(path, "data.json") if (path / "data.json").exists() else None
    rows = read_json(path, "results.json") if (path / "results.json").exists() else []
    name = f"{path.resolve().parent.name}/{path.resolve().name}"
    return Origin(name, sources_of(config, data), main_figures(rows))
