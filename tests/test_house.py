"""The house keeps its shape: layers, no cycles, light import, the same words in every place."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "analyzer"
#: Lower layers first; a module imports only from layers below its own, or from its own package.
LAYERS = [
    {"records", "wire", "errors", "config", "spoken", "deadlines", "hub"},
    {"sound", "_decoder", "network", "abstention", "redaction", "cues", "readers", "examples"},
    {"audio"},
    {"voices"},
    {"speakers"},
    {"asr", "model", "outcomes", "scorecard", "labels", "agreement"},
    {"scoring", "effects", "evaluation", "augmentation", "batches"},
    {"store", "fitting", "report", "fairness", "card"},
    {"training"},
    {"engines"},
    {"pipeline", "reviews"},
    {"cli", "web"},
    {"__main__"},
]
LEVEL = {name: number for number, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "analyzer":
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "analyzer"}
    return found


def _head(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_downwards_and_never_through_the_root(path: Path) -> None:
    here = _head(path)
    assert here in LEVEL, f"{here} has no layer: say in LAYERS where it belongs"
    for name in _imports(path):
        assert name != "analyzer", f"{path} imports the package root"
        there = name.split(".")[1]
        assert here == there or LEVEL[there] < LEVEL[here] or LEVEL[here] == 0 or (here, there) in {("pipeline", "engines")}, (
            f"{here} imports {there}"
        )


def test_there_are_no_import_cycles() -> None:
    def name_of(path: Path) -> str:
        return ".".join(("analyzer", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")

    graph = {name_of(path): _imports(path) - {name_of(path)} for path in MODULES}
    seen: dict[str, str] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if seen.get(name) == "done" or name not in graph:
            return
        assert name not in trail, f"cycle: {' -> '.join((*trail, name))}"
        for other in sorted(graph[name]):
            visit(other, (*trail, name))
        seen[name] = "done"

    for name in sorted(graph):
        visit(name, ())


def test_every_file_says_first_why_it_exists() -> None:
    silent = [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, analyzer, analyzer.records; print([m for m in ('torch','spacy','transformers','pandas','av','numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_the_public_names_are_all_there() -> None:
    import analyzer

    assert [name for name in analyzer.__all__ if getattr(analyzer, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = analyzer.nothing


def test_no_leftovers_and_nothing_foreign_in_the_repository() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "X" * 3, "pytorch" + "hosted", "/wo" + "rk/", "pyp" + "i.org")
    places = ("analyzer", "tests", "benchmarks", "recordings_sample/make", "docs")
    texts = [path for place in places for path in (ROOT / place).rglob("*") if path.suffix in (".py", ".md", ".toml", ".j2")]
    texts += [
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        ROOT / "pyproject.toml",
        *(ROOT / "models").rglob("*.md"),
        ROOT / "recordings_sample" / "README.md",
    ]
    bad = [f"{path}: {mark}" for path in texts for mark in marks if mark in path.read_text(encoding="utf-8")]
    assert bad == []
