"""Count what keeps the house in order, and print one JSON object.

    python scripts/house.py

string_subscripts_per_1000_lines   `row["name"]` in src, where an attribute could be
weak_name_share                    local names that are participles or adverbs, of all local names
largest_folder                     Python files of the fullest folder in src, and which one that is
largest_module, longest_function   in lines, and which
imports_per_notebook               import statements of slicemill that a notebook needs
shared_class_names                 names that two public classes of src have
"""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Words that say how something came about or where it is, and not what it is.
WEAK_NAMES = frozenset(
    [
        "again",
        "apart",
        "asked",
        "behind",
        "both",
        "broken",
        "built",
        "called",
        "changed",
        "chosen",
        "compared",
        "counted",
        "done",
        "drawn",
        "ended",
        "enough",
        "filled",
        "found",
        "given",
        "gone",
        "held",
        "here",
        "joined",
        "kept",
        "known",
        "left",
        "listed",
        "made",
        "many",
        "missed",
        "more",
        "most",
        "named",
        "one",
        "ones",
        "others",
        "placed",
        "prepared",
        "put",
        "ready",
        "rest",
        "said",
        "saved",
        "seen",
        "sent",
        "shown",
        "some",
        "started",
        "such",
        "taken",
        "that",
        "them",
        "there",
        "these",
        "this",
        "those",
        "told",
        "tried",
        "used",
        "wanted",
        "what",
        "whole",
        "witnessed",
        "written",
        "wrong",
    ]
)


@dataclass(frozen=True)
class House:
    """What was counted."""

    lines: int
    string_subscripts_per_1000_lines: float
    local_names: int
    weak_name_share: float
    weak_names: Mapping[str, int]
    largest_folder: tuple[str, int]
    largest_module: tuple[str, int]
    longest_function: tuple[str, int]
    imports_per_notebook: Mapping[str, int]
    shared_class_names: tuple[str, ...]


def house(root: Path = ROOT) -> House:
    """Count everything below a checkout's root."""
    files = sorted((root / "src").rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {_short(path, root): text.count("\n") for path, text in texts.items()}
    names = Counter(name for tree in trees.values() for name in local_names(tree))
    weak = Counter({name: count for name, count in names.items() if name in WEAK_NAMES})
    total = sum(lines.values())
    functions = {
        f"{_short(path, root)}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    return House(
        lines=total,
        string_subscripts_per_1000_lines=round(1000 * sum(map(string_subscripts, trees.values())) / total, 1),
        local_names=names.total(),
        weak_name_share=round(weak.total() / max(names.total(), 1), 4),
        weak_names=dict(weak.most_common()),
        largest_folder=_most(Counter(_short(path.parent, root) for path in files if path.stem != "__init__")),
        largest_module=_most(lines),
        longest_function=_most(functions),
        imports_per_notebook={
            path.name: _imports(path) for path in sorted((root / "notebooks").glob("*.ipynb"))
        },
        shared_class_names=tuple(sorted(_shared_classes(trees.values()))),
    )


def _short(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _most(counts: Mapping[str, int]) -> tuple[str, int]:
    return max(counts.items(), key=lambda item: item[1])


def string_subscripts(tree: ast.AST) -> int:
    """Subscripts by a string literal, other than in annotations such as `Literal["a"]`."""
    annotations = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal"
        for inner in ast.walk(node)
    }
    return sum(
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
        and id(node) not in annotations
        for node in ast.walk(tree)
    )


def local_names(tree: ast.AST) -> Iterator[str]:
    """Names that functions bind: arguments, assignments, loops and `with`; underscores in front left out."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = function.args
            for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                if argument.arg not in ("self", "cls"):
                    yield argument.arg.lstrip("_")
        elif isinstance(function, ast.Name) and isinstance(function.ctx, ast.Store):
            yield function.id.lstrip("_")


def _imports(notebook: Path) -> int:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    nodes = [node for text in code for node in ast.walk(ast.parse(text))]
    direct = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    rooms = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return sum(name.partition(".")[0] == "slicemill" for name in [*direct, *rooms])


def _shared_classes(trees: Iterable[ast.AST]) -> Iterator[str]:
    classes = Counter(
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return (name for name, count in classes.items() if count > 1)


if __name__ == "__main__":
    json.dump(asdict(house()), sys.stdout, indent=2)
    print()
