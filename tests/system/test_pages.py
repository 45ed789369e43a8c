"""Pages made from the code are those committed; the README and its companions name what there is; tasks exist."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mmpsr.adaptation import mmd, nrc, shot, subject
from mmpsr.balancing import gradient_based, gradnorm, loss_based
from mmpsr.layers.attention import cross, two_stream
from mmpsr.layers.graph import edgnn, gat, hgnn, ncgnn, ucgnn
from mmpsr.metrics.definitions import METRICS
from mmpsr.models import conflict_aware, mcdm
from mmpsr.temporal import can, joint, lfan, per_frame
from tests.support import pages
from tests.system.test_house import MAY_IMPORT, ORDER, PACKAGES

ROOT = Path(__file__).parents[2]
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
AGAIN = "write it anew: python -m tests.support.pages"
MODULES = (
    edgnn,
    gat,
    hgnn,
    ncgnn,
    ucgnn,
    cross,
    two_stream,
    gradient_based,
    gradnorm,
    loss_based,
    conflict_aware,
    mcdm,
    can,
    joint,
    lfan,
    per_frame,
    mmd,
    subject,
    shot,
    nrc,
)
WITHOUT_PAPER = ("EqualWeights",)
"""Methods that are nobody's."""


def test_the_formulas_are_those_of_the_docstrings() -> None:
    assert pages.FORMULAS.read_text(encoding="utf-8") == pages.formulas_page(), AGAIN


def test_the_picture_is_that_of_the_order_of_imports() -> None:
    text = pages.ARCHITECTURE.read_text(encoding="utf-8")
    assert text.count(pages.BEGIN) == text.count(pages.END) == 1
    assert text == pages.architecture_page(text, pages.rooms_picture(ORDER, MAY_IMPORT)), AGAIN


def test_a_picture_follows_the_order() -> None:
    order = {"a": ("x y", "z"), "b": ("u",), "c": ("v",)}
    picture = pages.rooms_picture(order, {"a": {"a"}, "b": {"a", "b"}, "c": {"a", "b", "c"}})
    assert all(part in picture for part in ('a0["x y"]', "a0 --- a1", "a --> b", "b --> c"))
    assert "a --> c" not in picture  # by way of b


def methods_of_the_model() -> set[str]:
    """Classes of the methods' modules that stand for a method: those that a factory makes."""
    factories = [path.read_text(encoding="utf-8") for path in (ROOT / "mmpsr").rglob("build.py")]
    made = {name for text in factories for name in re.findall(r"\w+", text)}
    names = set()
    for module in MODULES:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        public = {node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}
        names |= {name for name in public & made if not name.endswith("Config")}
    return names


def test_every_method_has_a_formula_a_paper_and_a_test() -> None:
    methods = {method.name: method for method in pages.methods()}
    expected = methods_of_the_model()
    assert {"GAT", "UCGNN", "LieUCGNN", "MTA", "BiCA", "GradNorm", "RandomWeights", "MCDM", "LFAN", "JMT"} <= expected
    for name in sorted(expected):
        assert name in methods, f"{name}: its docstring has neither an indented formula nor References"
        assert methods[name].formula, f"{name}: its docstring has no indented formula"
        assert methods[name].papers or name in WITHOUT_PAPER, f"{name}: its docstring has no References"
        assert methods[name].test is not None, f"{name}: no test names it"


def test_every_metric_has_a_formula_and_a_test() -> None:
    methods = {method.name: method for method in pages.methods()}
    for function in METRICS.values():
        name = getattr(function, "__name__", "")
        assert name in methods, f"{name}: its docstring has no indented formula"
        assert methods[name].formula, f"{name}: its docstring has no indented formula"
        assert methods[name].test is not None


def test_a_method_is_read_off_its_docstring() -> None:
    docstring = """Weigh them.

    With a a number:

        w = a x,
        v = w + 1

    More.

    Args:
        x: of x = 3.

    References:
        Doe, Roe: On x: a study. ICML 2017.
        Roe et al.: On y, once more, and
        again. NeurIPS 2018 (`y`).
    """
    lines = [docstring.splitlines()[0], *(line[4:] for line in docstring.splitlines()[1:])]
    parts = pages.sections("\n".join(lines))
    assert pages.formula_of(parts[""]) == ("w = a x,", "v = w + 1")
    assert pages.meaning_of(parts[""]) == "With a a number:"
    assert pages.papers_of(parts["References"]) == (
        "Doe, Roe: On x: a study. ICML 2017.",
        "Roe et al.: On y, once more, and again. NeurIPS 2018 (`y`).",
    )
    assert pages.formula_of(["Half of it, y = x / 2."]) == ("Half of it, y = x / 2.",)
    assert pages.formula_of(["Half of `a = b`."]) == ()
    assert pages.formula_of(["Half.", "", "y = x / 2"]) == ("y = x / 2",)
    assert pages.formula_of(["Half.", "", "It is y = x / 2."]) == ()
    assert pages.papers_of([]) == ()


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.name)
def test_links_and_files_of_the_pages_outside_docs_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), f"{path.name}: no {target}"
    for name in re.findall(r"`((?:\.ci|configs|docs|tests|mmpsr|corpora|encoders|training|tuning)/[\w./]+)`", text):
        assert (ROOT / name).exists(), f"{path.name}: there is no {name}"


def test_names_in_the_contributors_table_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in ("CorpusSource", "OfficialCorpus", "Encoder", "DeviceEncoder", "TaskSpec", "Balancer", "Metric"):
        assert f"`{name}`" in text
        found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
        assert any(f"class {name}(" in path.read_text(encoding="utf-8") for path in found), f"there is no {name}"


def test_the_readme_has_a_line_for_every_folder_and_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    assert "pip install uv && uv run accelerate launch training/run.py\n" in text
    assert "\nuv run pytest\n" in text
    tree = re.search(r"```\n(mmpsr/ .*?)```", text, flags=re.DOTALL)
    assert tree is not None
    named = set(re.findall(r"(\w+)/", tree[1]))
    for package in PACKAGES:
        folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert {package, *folders} <= named, f"{sorted({package, *folders} - named)} have no line in the README"


def test_the_architecture_names_functions_that_exist() -> None:
    """Steps of the walks are written `file.py::name` or `file.py::Class.name`."""
    text = pages.ARCHITECTURE.read_text(encoding="utf-8")
    steps = re.findall(r"`([\w/]+\.py)::([\w.]+)`", text)
    assert len(steps) >= 30
    for file, name in steps:
        assert (ROOT / file).is_file(), f"docs/architecture.md: there is no {file}"
        tree: ast.AST = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for part in name.split("."):
            inside = [
                node
                for node in ast.iter_child_nodes(tree)
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part
            ]
            assert inside, f"docs/architecture.md: {file} has no {name}"
            tree = inside[0]


def test_every_check_of_the_pipeline_is_a_task() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    tasks = (ROOT / ".ci" / "tasks").read_text(encoding="utf-8")
    known = set(re.findall(r"^        (\w+)\)", tasks, flags=re.MULTILINE))
    assert known == {"check", "demo", "docs", "site", "slow", "test"}
    called = [
        name
        for names in re.findall(r"\.ci/tasks ([\w ]+?)(?: &.*)?$", run, flags=re.MULTILINE)
        for name in names.split()
    ]
    assert called == ["check", "site", "demo", "slow", "test"]  # whose closing lines are then the last
    assert 'wait "$checks"' in run  # or a failure of what runs beside would go unseen
    assert "uv run accelerate launch training/run.py" in tasks
    assert "uv run pytest ;;" in tasks


def test_an_unknown_task_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run(["bash", ".ci/tasks", "cheque"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no task 'cheque'" in done.stderr
    assert all(f"\n{name} " in done.stderr for name in ("check", "demo", "slow", "test", "docs"))


def test_hooks_are_local_and_are_what_the_check_task_runs() -> None:
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in content["repos"]] == ["local"]
    hooks = {hook["id"]: hook for hook in content["repos"][0]["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "mypy", "pages"}
    for hook in hooks.values():
        assert hook["language"] == "system"
        assert hook["entry"].startswith("uv run --no-sync ")
    tasks = (ROOT / ".ci" / "tasks").read_text(encoding="utf-8")
    assert all(f"uv run --no-sync {tool}" in tasks for tool in ("ruff check", "ruff format", "mypy"))
