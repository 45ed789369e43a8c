"""Rules of the house that no single module can keep."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("mmpsr", "corpora", "encoders", "training", "tuning")
MAY_IMPORT = {
    "mmpsr": {"mmpsr"},
    "corpora": {"mmpsr", "corpora"},
    "encoders": {"mmpsr", "encoders"},
    "training": {"mmpsr", "corpora", "encoders", "training"},
    "tuning": {"mmpsr", "corpora", "encoders", "training", "tuning"},
    "encoders/run.py": {"mmpsr", "encoders", "training", "corpora"},  # a launched entry point
}
LAUNCHED = ("encoders", "training", "tuning")  # sys.path[0] under `accelerate launch <folder>/run.py`
HEAVY = ("mediapipe", "open_clip", "laion_clap", "opensmile", "transformers")
# top-level modules that other machines have, besides those that can be imported here
ELSEWHERE = {*HEAVY, "datasets", "deepspeed", "evaluate", "optuna", "peft", "ray", "torchjd", "trackio", "wandb"}


def sources() -> dict[str, str]:
    """Source text of every module, by path relative to the root."""
    files = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def imported_modules(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_imports(files: Mapping[str, str]) -> list[str]:
    wrong = []
    for file, source in files.items():
        allowed = MAY_IMPORT.get(file, MAY_IMPORT[file.split("/")[0]])
        for module in imported_modules(source):
            top = module.split(".")[0]
            relative = not top
            if (
                relative
                or (top in PACKAGES and top not in allowed)
                or re.fullmatch(rf"({'|'.join(PACKAGES)})\.run", module)
            ):
                wrong.append(f"{file} imports {module}")
    return wrong


def test_imports_point_one_way() -> None:
    assert wrong_imports(sources()) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("mmpsr/a.py", "import corpora.clips"),
        ("corpora/a.py", "def f():\n    from encoders.base import Encoder"),
        ("encoders/a.py", "from training.fit import loop"),
        ("encoders/a.py", "from corpora.clips import ClipTable"),
        ("training/a.py", "import tuning"),
        ("training/a.py", "from training import run"),
        ("tuning/a.py", "from training.run import main"),
        ("mmpsr/a.py", "from . import tasks"),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str) -> None:
    assert wrong_imports({file: source})
    assert not wrong_imports(
        {"encoders/run.py": "from training.config import RunConfig", "tuning/a.py": "import corpora"}
    )


def taken(name: str) -> bool:
    """Whether a top-level module of this name can be imported, here or where optional packages are installed."""
    spec = importlib.util.find_spec(name)
    return name in ELSEWHERE or (spec is not None and spec.loader is not None and spec.origin is not None)


def test_no_launched_folder_hides_an_importable_module() -> None:
    assert all(taken(name) for name in ("logging", "mediapipe", "evaluate", "optuna", "torch"))
    folders = {str(ROOT / folder) for folder in LAUNCHED}
    assert not folders & set(sys.path), "a launched folder is on the path, which would make its own files importable"
    names = [path for folder in LAUNCHED for path in sorted((ROOT / folder).glob("*.py")) if path.stem != "__init__"]
    assert [str(path.relative_to(ROOT)) for path in names if taken(path.stem)] == []


IMPORT_WITHOUT = """
import importlib, sys

class Hide:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {heavy!r} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
for name in {modules!r}:
    importlib.import_module(name)
for name in {heavy!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " was not hidden")
"""


def test_core_imports_without_the_heavy_libraries() -> None:
    files = [file for file in sources() if file.split("/")[0] in ("mmpsr", "corpora", "training")]
    modules = [file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files]
    program = IMPORT_WITHOUT.format(heavy=HEAVY, modules=modules)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_ships_the_five_packages(tmp_path: Path) -> None:
    wheel = pytest.importorskip("hatchling.builders.wheel")
    built = list(wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = zipfile.ZipFile(built[0]).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert len(tops) == len(PACKAGES) + 1
    assert {name for name in names if name.endswith(".py")} == set(sources())


def config_fields(trees: Iterable[ast.Module]) -> list[tuple[str, str]]:
    """(class, field) of all subclasses of Config, direct or not; a discriminator is read by pydantic."""
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    known, grown = {"Config"}, True
    while grown:
        bases = {name: {base.id for base in node.bases if isinstance(base, ast.Name)} for name, node in classes.items()}
        more = {name for name in bases if bases[name] & known} - known
        known, grown = known | more, bool(more)
    fields = []
    for name in sorted(known - {"Config"}):
        for node in classes[name].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                annotation = ast.unparse(node.annotation)
                is_discriminator = re.fullmatch(r"Literal\['[^',]*'\]", annotation) is not None
                if not (is_discriminator or annotation.startswith("ClassVar") or node.target.id == "model_config"):
                    fields.append((name, node.target.id))
    return fields


class Reads(ast.NodeVisitor):
    """Names read as attributes, or as text beside a `getattr`; what only a validator reads is not used."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if not any("validator" in ast.unparse(decorator) for decorator in node.decorator_list):
            if any(isinstance(part, ast.Name) and part.id == "getattr" for part in ast.walk(node)):
                self.names |= {
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self.names.add(node.attr)
        self.generic_visit(node)


def unread_fields(files: Iterable[str]) -> list[str]:
    trees = [ast.parse(source) for source in files]
    reads = Reads()
    for tree in trees:
        reads.visit(tree)
    return [f"{name}.{field}" for name, field in config_fields(trees) if field not in reads.names]


def test_every_setting_is_read() -> None:
    assert unread_fields(sources().values()) == []


def test_an_unread_setting_is_found() -> None:
    module = """
class Base(Config):
    kind: Literal['a']
    used: int
    by_name: int
    unread: int
    only_checked: int
    @field_validator("only_checked")
    def check(cls, value): return cls.only_checked
class Derived(Base):
    forgotten: int = 0
class Other:
    plain: int
def read(config):
    config.unread = 3
    return config.used, [getattr(config, name) for name in ("by_name",)]
"""
    assert unread_fields([module]) == ["Base.unread", "Base.only_checked", "Derived.forgotten"]


# written so that this file does not match itself
MACHINE = re.compile(
    r"(?<![\w.~*$}/-])/(?:[h]ome|[U]sers|[r]oot|[w]ork|[m]nt|[s]cratch)/\w|\b[A-Z]:\\\\?[U]sers"
    r"|[i]ndex-url|https?://[^\s\"')]*(?:/[s]imple\b|[p]ypi\.|[a]rtifactory)|\[\[tool\.uv\.[i]ndex"
)


def committed() -> list[Path]:
    """Files that are tracked, or would be with `git add`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_names_a_machine_or_an_index() -> None:
    files = committed()
    assert ROOT / "pyproject.toml" in files
    assert "uv.lock" not in {path.name for path in files}
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        found += [f"{path.relative_to(ROOT)}: {match[0]!r}" for match in MACHINE.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'root = "/{}/anna/data"'.format("home"),
        "see /{}/anna".format("Users"),
        "cd /{}/main".format("work"),
        "--extra-{}-url x".format("index"),
        "https://mirror.example/{}/".format("simple"),
    ],
)
def test_a_machine_or_an_index_is_found(text: str) -> None:
    assert MACHINE.search(text)
    assert not MACHINE.search("https://example.org/home/page, data/home/x, ~/work/x, ${HOME}/work/x, a simple index")
