"""What labels that spread over neighbours are worth by themselves, beside the linear baseline with as many labels.

    uv run python tests/benchmarks/propagated_labels.py TABLES [--alphas 0.5 0.9 0.99] [--neighbors 10] [--folds 5]
        [--store data/features]

Rows, folds and hidden labels are those of `configs/studies/few_labels.toml`, vectors the standardised inputs side by
side. Labels spread over the training clips of a fold; its test clips take the mean of their nearest ones'.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from mmpsr.metrics.seeds import seed_summary
from mmpsr.objective.propagation import affinities, induce, propagate
from mmpsr.objective.supervised import balanced_weights
from training.data.few_labels import keep_labels
from training.data.load import load_run_data
from training.fit.loop import build_model
from training.linear.baseline import LinearBaseline
from training.scoring.scores import embed, evaluate_rows
from tuning.study.config import Cell, load_study

STUDY = Path(__file__).parents[2] / "configs" / "studies" / "few_labels.toml"
NUMBERS = (50, 100, 200, 500)


def measure(cells: dict[int, Cell], alphas: list[float], num_neighbors: int) -> dict[tuple[str, int, str], float]:
    """Figures on the test clips of one fold, by metric, number of labels and system."""
    config = next(iter(cells.values())).config
    plain = config.model_copy(update={"data": config.data.model_copy(update={"num_labeled": {}})})
    data, tasks = load_run_data(plain, Accelerator(cpu=True)).joined, config.tasks.resolve()
    train, test = (data.rows(config.corpora.trained(), split) for split in ("train", "test"))
    unfitted = plain.model_copy(update={"model": config.model.model_copy(update={"linear_path": {}})})
    model = build_model(unfitted, data, tasks)
    vectors, queries = (embed(model, data, rows, "inputs") for rows in (train, test))
    graph, found = affinities(vectors, num_neighbors), {}
    for number, cell in cells.items():
        joined = keep_labels(data, cell.config)
        systems = {"linear": LinearBaseline(joined, tasks, config.corpora).predict(test)}
        for alpha in alphas:
            predicted = {}
            for task, spec in tasks.items():
                labels = joined.labels[task][train]
                weights = None if spec.kind == "regression" else balanced_weights(labels, spec)
                means = induce(queries, vectors, propagate(graph, labels, spec, alpha, weights), num_neighbors)
                predicted[task] = torch.nan_to_num(means, nan=0.5).double().numpy()
            systems[f"alpha {alpha:g}"] = predicted
        for system, predictions in systems.items():
            for figure in evaluate_rows(predictions, joined, test, tasks, config.corpora):
                found[figure.metric, number, system] = figure.value
    return found


def main() -> None:
    """Print a line for each metric, number of labels and alpha."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables")
    parser.add_argument("--alphas", nargs="+", type=float, default=[0.5, 0.9, 0.99])
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--store", default="data/features")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = [f"corpora.root={options.tables}", f"features.store={options.store}"]
    study, figures = load_study(STUDY, settings), defaultdict(list)
    for seed in range(options.folds):
        cells = {int(cell.row.split()[0]): cell for cell in study.cells
                 if cell.seed == seed and cell.row in [f"{number} labels" for number in NUMBERS]}  # fmt: skip
        for key, value in measure(cells, options.alphas, options.neighbors).items():
            figures[key].append(value)
    table = Table("metric", "labels", "system", "mean", "minus linear")
    for (metric, number, system), values in figures.items():
        linear = figures[metric, number, "linear"]
        gap = seed_summary([value - other for value, other in zip(values, linear, strict=True)], overlap=1 / 3)
        shown = "" if system == "linear" else f"{gap.mean:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"
        table.add_row(metric, str(number), system, f"{sum(values) / len(values):.1f}", shown)
    Console().print(table)


if __name__ == "__main__":
    main()
