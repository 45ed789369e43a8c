"""Pages made from the code are those committed; the README names what there is; tasks exist; the site has all pages."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from encoders.cues.columns import PARTS, columns_of
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


def test_the_settings_are_those_of_the_models() -> None:
    assert pages.SETTINGS.read_text(encoding="utf-8") == pages.settings_page(), AGAIN


def test_the_picture_is_that_of_the_order_of_imports() -> None:
    text = pages.ARCHITECTURE.read_text(encoding="utf-8")
    assert text.count(pages.BEGIN) == text.count(pages.END) == 1
    assert text == pages.architecture_page(text, pages.rooms_picture(ORDER, MAY_IMPORT)), AGAIN


def test_the_measured_columns_are_those_of_the_header() -> None:
    text = pages.MEASURES.read_text(encoding="utf-8")
    assert text == pages.measures_page(text), AGAIN
    assert re.findall(r"^\| `([\w.]+)` \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE) == [
        name for part in PARTS for name in columns_of(part)
    ]


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
    assert known == {"browser", "check", "demo", "docs", "site", "slow", "test"}
    called = [
        name
        for names in re.findall(r"\.ci/tasks ([\w ]+?)(?: &.*)?$", run, flags=re.MULTILINE)
        for name in names.split()
    ]
    assert called == ["browser", "check", "site", "demo", "slow", "test"]  # whose closing lines are then the last
    waited = re.findall(r'^wait "\$(\w+)"$', run, flags=re.MULTILINE)
    assert waited == ["browser", "checks"]  # each by itself, or a failure of what runs beside would go unseen
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


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """The hooks of mkdocs.yml."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / ".ci" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_lead_nowhere_are_found(site: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "under").mkdir()
    (tmp_path / "under" / "index.html").write_text('<a id="here"></a><a href="../a.html#there"></a><img src="no.png">')
    links = [
        "#top",
        "#gone",
        "under",
        "under/#here",
        "under/index.html#lost",
        "b%20c.svg",
        "no.html",
        "https://x.org/y",
    ]
    (tmp_path / "a.html").write_text('<h1 id="top">' + "".join(f'<a href="{link}"></a>' for link in links))
    (tmp_path / "b c.svg").touch()
    assert list(site.broken_links(tmp_path)) == [
        "a.html: #gone", "a.html: under/index.html#lost", "a.html: no.html",
        "under/index.html: ../a.html#there", "under/index.html: no.png",
    ]  # fmt: skip


def test_files_of_the_repository_are_pages_of_the_site(site: ModuleType) -> None:
    text = "see [a](../mmpsr/tasks.py), [b](../CHANGELOG.md#removed) and [c](running.md)\n\n```sh needs a hub\nx\n```"
    assert site.on_page_markdown(text, None) == (
        "see [a](source/mmpsr/tasks.py.md), [b](CHANGELOG.md#removed) and [c](running.md)\n\n```sh\nx\n```"
    )
    page = site.source_page("mmpsr/tasks.py")
    assert "\n# mmpsr/tasks.py\n\n``````python\n" in page
    assert (ROOT / "mmpsr" / "tasks.py").read_text(encoding="utf-8").rstrip() in page


def test_the_navigation_is_that_of_the_index(site: ModuleType) -> None:
    tables = (
        "| guide | for |\n|---|---|\n| [A b](a.md) | x |\n",
        "| reference | for |\n|---|---|\n| [C](c.md) | y |\n",
    )
    text = "# Guides\n\n" + "\n".join(tables)
    project = {"Project": [{"Contributing": "CONTRIBUTING.md"}, {"Changelog": "CHANGELOG.md"}]}
    expected = [{"Guide": ["README.md", {"A b": "a.md"}]}, {"Reference": [{"C": "c.md"}]}, project]
    assert site.navigation(text) == expected
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\w+\.md", str(site.navigation(index)))
    assert sorted(named) == sorted([path.name for path in (ROOT / "docs").glob("*.md")] + list(site.PAGES))


def test_no_picture_loads_anything() -> None:
    for path in (ROOT / "docs" / "images").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "var(" not in text, f"{path.name} has colours of a page"
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == [], f"{path.name} loads something"


def test_a_page_with_a_broken_link_ends_the_build(site: ModuleType, tmp_path: Path) -> None:
    from mkdocs.exceptions import PluginError

    (tmp_path / "index.html").write_text('<a href="gone.html"></a>')
    with pytest.raises(PluginError, match=r"index\.html: gone\.html"):
        site.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
