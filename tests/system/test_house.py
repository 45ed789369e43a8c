"""Rules of the house that no single module can keep."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.support.hidden_modules import without_modules

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


@cache
def tree_of(source: str) -> ast.Module:
    """Parse a file once for all rules."""
    return ast.parse(source)


@cache
def imports_in(source: str) -> list[ast.Import | ast.ImportFrom]:
    """List the import statements of a file, at its top or inside a function."""
    return [node for node in ast.walk(tree_of(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


@cache
def sources() -> dict[str, str]:
    """Source text of every module, by path relative to the root."""
    files = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def imported_modules(source: str) -> Iterator[str]:
    for node in imports_in(source):
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


# rooms from the ground up: each imports those of the lines above it, and itself
ORDER = {
    "mmpsr": (
        "errors", "batch config delimited extras files plugins unpickling", "executors prototypes", "tasks",
        "decisions probabilities",
        "layers", "models temporal", "objective", "balancing", "stacked", "metrics", "calibration",
        "adaptation explanation export",
    ),
    "corpora": (
        "timeline", "clips", "reading", "labels splitting", "segments source", "bah fiv2 meld mosei table",
        "audformat checks demo", "registry",
    ),
    "encoders": (
        "errors sequences spec timed visibility", "media store workers", "base", "catalogue", "config", "device face",
        "creation models", "cues lexica stylometry writers", "extraction", "maintenance", "run",
    ),
    "training": (
        "config launch timeline", "data published_config", "class_texts doctor drafting scoring", "linear runs",
        "evaluation fit", "stacked", "adaptation bundle pipeline report zero_shot", "estimator predict", "in_time",
        "interactive", "app", "commands", "run",
    ),
    "tuning": ("search study", "transfer", "console", "run"),
}  # fmt: skip


def modules_of(files: Iterable[str]) -> dict[str, str]:
    """File by module; a package is named without `__init__`."""
    return {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in files}


def project_imports(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Modules of the project that each module imports, at its top or inside a function."""
    modules = modules_of(files)
    found: dict[str, set[str]] = {}
    for module, file in modules.items():
        names: set[str] = set()
        for node in imports_in(files[file]):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= whole & modules.keys()
                names |= {str(node.module)} if whole - modules.keys() else set()
        found[module] = {name for name in names if name in modules} - {module}
    return found


def imports_upwards(files: Mapping[str, str]) -> list[str]:
    """Imports of rooms that do not lie below, and rooms that the order does not know."""
    ranks = {
        package: {room: rank for rank, line in enumerate(lines) for room in line.split()}
        for package, lines in ORDER.items()
    }
    wrong = []
    for module, imported in project_imports(files).items():
        package, room, *_ = [*module.split("."), ""]
        if room and room not in ranks[package]:
            wrong.append(f"{module} has no place in the order")
            continue
        for other in sorted(imported):
            top, below, *_ = [*other.split("."), ""]
            if top == package and room and below and below != room and ranks[top].get(below, 99) >= ranks[top][room]:
                wrong.append(f"{module} imports {other}")
    return wrong


def test_rooms_import_what_lies_below_them() -> None:
    assert imports_upwards(sources()) == []


def test_an_import_upwards_is_found() -> None:
    files = {
        "mmpsr/config.py": "def f():\n    from mmpsr.metrics import ranking",
        "mmpsr/metrics/ranking.py": "import mmpsr.config\nfrom mmpsr.calibration import fitting",
        "mmpsr/calibration/fitting.py": "from mmpsr.metrics.ranking import nemenyi",
        "mmpsr/attic.py": "",
        "mmpsr/export.py": "from mmpsr.explanation import explain",
        "mmpsr/explanation/explain.py": "from mmpsr.explanation import shapley",
        "mmpsr/explanation/shapley.py": "",
    }
    assert imports_upwards(files) == [
        "mmpsr.config imports mmpsr.metrics.ranking",
        "mmpsr.metrics.ranking imports mmpsr.calibration.fitting",
        "mmpsr.attic has no place in the order",
        "mmpsr.export imports mmpsr.explanation.explain",
    ]


def circles(files: Mapping[str, str]) -> list[str]:
    """Modules that import each other, directly or not."""
    imports = project_imports(files)
    found, finished = [], set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" -> ".join((*path[path.index(module) :], module)))
        elif module not in finished:
            for other in sorted(imports[module]):
                visit(other, (*path, module))
            finished.add(module)

    for module in sorted(imports):
        visit(module, ())
    return found


def test_no_modules_import_each_other() -> None:
    assert circles(sources()) == []


def test_a_circle_is_found() -> None:
    files = {
        "mmpsr/a.py": "import mmpsr.b",
        "mmpsr/b.py": "def f():\n    from mmpsr.c import g",
        "mmpsr/c.py": "from mmpsr import a",
        "mmpsr/d.py": "import mmpsr.a",
    }
    assert circles(files) == ["mmpsr.a -> mmpsr.b -> mmpsr.c -> mmpsr.a"]


MOST_FILES = 12
FULL = {
    "tests/support": "helpers that tests import by name; none knows another room",
    "tests/benchmarks": "commands, each by itself",
}


def crowded(files: Iterable[str]) -> list[str]:
    """Folders with more files than a reader takes in at once."""
    counts = Counter(file.rpartition("/")[0] for file in files if not file.endswith("/__init__.py"))
    return [f"{folder}: {number} files" for folder, number in counts.items() if number > MOST_FILES]


def test_no_folder_is_crowded() -> None:
    tests = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob("*.py"))]
    assert [each for each in crowded([*sources(), *tests]) if each.split(":")[0] not in FULL] == []


def test_a_crowded_folder_is_found() -> None:
    full = [f"mmpsr/layers/l{number}.py" for number in range(12)]
    assert crowded([*full, "mmpsr/layers/__init__.py", "mmpsr/a.py"]) == []
    assert crowded([*full, "mmpsr/layers/more.py"]) == ["mmpsr/layers: 13 files"]


def defined(tree: ast.Module) -> set[str]:
    """Names that a module's own statements make."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {
                part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            }
    return names


def second_addresses(files: Mapping[str, str]) -> list[str]:
    """Names that are handed on by a module that does not make them; only the face of a room may, of its own."""
    modules, wrong = modules_of(files), []
    trees = {module: tree_of(files[file]) for module, file in modules.items()}
    names = {module: defined(tree) for module, tree in trees.items()}
    for module, tree in trees.items():
        is_face = modules[module].endswith("/__init__.py")
        for node in imports_in(files[modules[module]]):
            if not (isinstance(node, ast.ImportFrom) and node.module in modules):
                continue
            for alias in node.names:
                if f"{node.module}.{alias.name}" in modules:
                    if is_face:
                        wrong.append(f"{module} bears the name of its module {alias.name}")
                elif alias.name not in names[node.module]:
                    wrong.append(f"{module} imports {alias.name} from {node.module}, which does not make it")
                elif is_face and not node.module.startswith(f"{module}.") and alias.name != "on_demand":
                    wrong.append(f"{module} is the face of {node.module}")
                elif is_face and f"{module}.{alias.name}" in modules:
                    wrong.append(f"{module} hides its module {alias.name}")
        if not is_face and "__all__" in names[module]:
            public = next(
                ast.literal_eval(node.value)
                for node in tree.body
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            )
            wrong += [f"{module} hands on {name}" for name in public if name not in names[module]]
    return wrong


def test_a_thing_has_one_address() -> None:
    assert second_addresses(sources()) == []


def test_a_second_address_is_found() -> None:
    files = {
        "mmpsr/a.py": '__all__ = ["f"]\ndef f(): ...',
        "mmpsr/b.py": 'from mmpsr.a import f\n__all__ = ["f"]',
        "mmpsr/c.py": "def g():\n    from mmpsr.b import f",
        "mmpsr/room/__init__.py": 'from mmpsr.a import f\nfrom mmpsr.room.h import h, i\n__all__ = ["h", "i"]',
        "mmpsr/room/h.py": "h = i = 1",
        "mmpsr/d.py": "from mmpsr.room import i",
    }
    assert second_addresses(files) == [
        "mmpsr.b hands on f",
        "mmpsr.c imports f from mmpsr.b, which does not make it",
        "mmpsr.room is the face of mmpsr.a",
        "mmpsr.room hides its module h",
        "mmpsr.d imports i from mmpsr.room, which does not make it",
    ]


APART = ("benchmarks", "properties", "support", "system")


def homeless(tests: Iterable[str], files: Iterable[str]) -> list[str]:
    """Test files that stand beside no module of their name: `test_<module>.py`, or `test_<module>_<aspect>.py`."""
    modules, wrong = set(files), []
    for test in tests:
        _, *rooms, name = test.split("/")
        words = name.removeprefix("test_").removesuffix(".py").split("_")
        names = ["_".join(words[: end + 1]) for end in range(len(words))]
        is_apart = bool(rooms) and rooms[0] in APART
        if not is_apart and not any("/".join([*rooms, f"{each}.py"]) in modules for each in names):
            wrong.append(test)
    return wrong


def test_tests_stand_beside_what_they_test() -> None:
    tests = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob("test_*.py"))]
    assert homeless(tests, sources()) == []
    assert not [path for path in (ROOT / "tests").rglob("test_*.py") if not (path.parent / "__init__.py").exists()]


def test_a_homeless_test_is_found() -> None:
    files = ["mmpsr/config.py", "mmpsr/metrics/seeds.py"]
    beside = ["tests/mmpsr/test_config.py", "tests/mmpsr/test_config_files.py", "tests/mmpsr/metrics/test_seeds.py"]
    wrong = ["tests/mmpsr/test_seeds.py", "tests/test_config.py", "tests/mmpsr/metrics/test_seed.py"]
    assert homeless([*beside, "tests/system/test_house.py", *wrong], files) == wrong


def taken(name: str) -> bool:
    """Whether a top-level module of this name can be imported, here or where optional packages are installed."""
    spec = importlib.util.find_spec(name)
    return name in ELSEWHERE or (spec is not None and spec.loader is not None and spec.origin is not None)


def hiding(folder: Path) -> list[str]:
    """Files and folders that lie directly in a launched folder and bear the name of an importable module."""
    files = [path for path in folder.iterdir() if path.suffix == ".py" or (path.is_dir() and path.name.isidentifier())]
    names = {path.stem: path.name for path in files if path.stem not in ("__init__", "__pycache__")}
    return sorted(f"{folder.name}/{file}" for name, file in names.items() if taken(name))


def test_no_launched_folder_hides_an_importable_module() -> None:
    assert all(taken(name) for name in ("logging", "mediapipe", "evaluate", "optuna", "torch"))
    folders = {str(ROOT / folder) for folder in LAUNCHED}
    assert not folders & set(sys.path), "a launched folder is on the path, which would make its own files importable"
    assert [each for folder in LAUNCHED for each in hiding(ROOT / folder)] == []


def test_a_file_or_folder_that_hides_a_module_is_found(tmp_path: Path) -> None:
    for name in ("training/loop.py", "training/logging.py", "training/evaluate/a.py", "training/rooms/torch.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert hiding(tmp_path / "training") == ["training/evaluate", "training/logging.py"]


IMPORT_WITHOUT = """
import importlib
for name in {modules!r}:
    importlib.import_module(name)
for name in {heavy!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " was not hidden")
"""


@pytest.mark.slow
def test_core_imports_without_the_heavy_libraries() -> None:
    files = [file for file in sources() if file.split("/")[0] in ("mmpsr", "corpora", "training")]
    modules = [file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files]
    program = without_modules(HEAVY) + IMPORT_WITHOUT.format(heavy=HEAVY, modules=modules)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
    trees = [tree_of(source) for source in files]
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
