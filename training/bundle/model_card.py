"""The model card of a bundle, `README.md`, as the Hugging Face hub reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files

from mmpsr.calibration.conformal import COVERAGE, COVERAGE_MEANS, promise
from mmpsr.calibration.novelty import Novelty
from training.bundle.collect import DEMO
from training.bundle.format import Bundle, BundledEncoder, BundledFigure, Interval
from training.runs.origin import GENERATED
from training.scoring.tables import metric_name

__all__ = ["model_card"]

FEW_GROUPS = 30
MEANINGS: Mapping[str, str] = {
    "emotion": "what observers saw in the clip, not what the person felt",
    "personality": "the impression that the person made on observers, not a personality test",
    "ambivalence": "whether observers saw conflicting or hesitant expression",
}


def model_card(bundle: Bundle, novelty: Novelty | None = None) -> str:
    """Write Markdown with front matter: what the model predicts, from what data, how well, and what it is not for.

    Args:
        bundle: all but its sums.
        novelty: its fits; None where the run stored none.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False, keep_trailing_newline=True
    )
    template = environment.from_string(
        files("training").joinpath("templates/model_card.md.j2").read_text(encoding="utf-8")
    )
    names = _names(bundle)
    only_vectors = any(encoder.origin == "vectors" for encoder in bundle.encoders.values())
    return template.render(
        front_matter=_front_matter(bundle, "tabular-classification" if only_vectors else "video-classification"),
        name=bundle.name,
        about=bundle.origin.line(bundle.name.split("/")[-1]),
        is_generated=bundle.origin.is_generated,
        has_probabilities=any(spec.kind != "regression" for spec in bundle.config.tasks.resolve().values()),
        calibrated=[task for task in bundle.config.tasks.active if bundle.calibration.is_calibrated(task)],
        coverage=list(_coverage(bundle)),
        coverage_means=COVERAGE_MEANS,
        format_version=bundle.format_version,
        is_demo=bundle.is_demo,
        only_vectors=only_vectors,
        has_own_encoders=any(encoder.origin == "own" for encoder in bundle.encoders.values()),
        modalities=", ".join(bundle.modalities),
        first_modality=bundle.modalities[0],
        tasks=list(_tasks(bundle)),
        encoders=[_encoder(name, bundle.encoders[name], bundle) for name in bundle.modalities],
        writers=list(_writers(bundle)),
        corpora=list(_corpora(bundle)),
        has_consent=any(
            bundle.corpora[corpus.name].adapter == "bah" and not corpus.generated for corpus in bundle.origin.corpora
        ),
        training=list(_training(bundle)),
        figures=[_figure(figure, names) for figure in bundle.figures],
        unproven=[_place(figure, names) for figure in bundle.figures if _is_unproven(figure.over_linear)],
        has_linear=any(figure.linear is not None for figure in bundle.figures),
        few_groups=sorted({
            f"{names[figure.corpus]} {figure.split} ({figure.num_groups})"
            for figure in bundle.figures if figure.num_groups < FEW_GROUPS
        }),
        few=FEW_GROUPS,
        zero_shot=[names[name] for name, corpus in bundle.corpora.items() if corpus.zero_shot],
        novelty=[(name, len(fit.dev)) for name, fit in (novelty or Novelty()).fits.items()],
        versions=", ".join(f"{name} {version}" for name, version in bundle.versions.items()),
    )  # fmt: skip


def _names(bundle: Bundle) -> dict[str, str]:
    """Call corpora by their names, but those that a program made by none that a real corpus has."""
    generated = [corpus.name for corpus in bundle.origin.corpora if corpus.generated]
    own = {name: name for name in [*bundle.corpora, *(figure.corpus for figure in bundle.figures)]}
    return own | {name: f"{GENERATED} {number}" for number, name in enumerate(generated, start=1)}


def _front_matter(bundle: Bundle, task_type: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    generated = {corpus.name for corpus in bundle.origin.corpora if corpus.generated}
    results = [
        EvalResult(
            task_type=task_type, task_name=figure.task, dataset_type=figure.corpus,
            dataset_name=figure.corpus, dataset_split=figure.split, metric_type=figure.metric,
            metric_name=metric_name(figure.metric), metric_value=round(figure.value, 2),
        )
        for figure in bundle.figures
        if figure.value is not None and figure.corpus not in generated
    ]  # fmt: skip
    data = ModelCardData(
        library_name="mmpsr", pipeline_tag=task_type, model_name=bundle.name.replace("/", "-"),
        tags=["affective-computing", "multimodal", *bundle.config.tasks.active, *bundle.modalities],
        license="apache-2.0" if bundle.is_demo else "other",
        license_name=None if bundle.is_demo else "see-the-corpora",
        eval_results=results or None,
    )  # fmt: skip
    return data.to_yaml()


def _tasks(bundle: Bundle) -> Iterator[dict[str, str]]:
    for task, spec in bundle.config.tasks.resolve().items():
        what = bundle.calibration.statement(task, spec)
        what = what[0].lower() + what[1:]
        yield {
            "name": task, "kind": spec.kind.replace("_", " "), "classes": ", ".join(spec.classes), "what": what,
            "meaning": MEANINGS.get(task, "what its labels say"),
        }  # fmt: skip


def _coverage(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Say of each task whose quantiles are stored what is promised."""
    names, conformal = _names(bundle), bundle.calibration.conformal
    for task, spec in bundle.config.tasks.resolve().items():
        if conformal.get(task):
            yield task, promise(conformal, task, spec, COVERAGE).with_names(names).sentence


def _encoder(modality: str, encoder: BundledEncoder, bundle: Bundle) -> dict[str, str]:
    weights = encoder.settings.get("weights") or encoder.settings.get("model")
    facts = [] if encoder.version is None else [f"version {encoder.version}", f"pooling {encoder.pooling}"]
    facts += [f"weights {weights}"] if weights else []
    facts += [f"sequences {encoder.sequence_key}"] if encoder.sequence_key else []
    facts += ["vectors made elsewhere"] if encoder.origin == "vectors" else []
    facts += ["a class of its own, not in mmpsr"] if encoder.origin == "own" else []
    return {
        "modality": modality, "name": bundle.config.features.encoders[modality], "width": str(encoder.vector_width),
        "key": encoder.key, "facts": ", ".join(facts) or "not installed where the bundle was written",
    }  # fmt: skip


def _writers(bundle: Bundle) -> Iterator[str]:
    features = bundle.config.features
    if features.transcriber is not None:
        yield f"Transcripts that clips lacked were written by {features.transcriber.model}."
    if features.describer is not None:
        yield f"Descriptions that clips lacked were written by {features.describer.model}."


def _corpora(bundle: Bundle) -> Iterator[dict[str, str]]:
    names = _names(bundle)
    generated = {corpus.name for corpus in bundle.origin.corpora if corpus.generated}
    for name, corpus in bundle.corpora.items():
        clips = ", ".join(f"{count} {split}" for split, count in corpus.num_clips.items())
        role = "evaluated only (zero-shot)" if corpus.zero_shot else "trained on"
        if not corpus.zero_shot and corpus.num_trained is not None:
            role = f"trained on ({corpus.num_trained} clips)"
        yield {
            "name": names[name],
            "role": role,
            "clips": clips or "none",
            "licence": DEMO if name in generated else corpus.licence,
        }


def _training(bundle: Bundle) -> Iterator[str]:
    config, summary = bundle.config, bundle.training
    yield f"model `{config.model.kind}`, hidden width {config.model.hidden_width}"
    if summary is not None:
        yield f"{summary.num_parameters:,} parameters"
        yield f"{summary.num_epochs} epochs, best on dev was {summary.best_epoch} ({summary.dev_figure:.2f} %)"
    yield f"seed {config.training.seed}, learning rate {config.training.lr:g}, batches of {config.training.batch_size}"
    yield f"semi-supervision `{config.semi_supervision.method}`, balancing `{config.balancing.method}`"
    if config.model.linear_path:
        paths = ", ".join(f"{task} ({kind})" for task, kind in config.model.linear_path.items())
        yield f"linear path beside the network: {paths}"


def _figure(figure: BundledFigure, names: Mapping[str, str]) -> Sequence[str]:
    return (
        names[figure.corpus], figure.split, figure.task, metric_name(figure.metric), str(figure.num_clips),
        str(figure.num_groups), _shown(figure), _shown(figure.linear), _shown(figure.over_linear, sign="+"),
        "-" if figure.chance is None else f"{figure.chance:.1f}",
    )  # fmt: skip


def _place(figure: BundledFigure, names: Mapping[str, str]) -> str:
    return f"{names[figure.corpus]} {figure.task} {metric_name(figure.metric)}"


def _shown(figure: Interval | None, sign: str = "") -> str:
    """Write a figure with its interval."""
    if figure is None or figure.value is None:
        return "-"
    value = f"{figure.value:{sign}.1f}"
    return value if figure.low is None else f"{value} [{figure.low:{sign}.1f}, {figure.high:{sign}.1f}]"


def _is_unproven(over: Interval | None) -> bool:
    """Tell whether nothing shows that the model is better than the linear baseline."""
    return over is not None and (over.low is None or over.low <= 0.0)
