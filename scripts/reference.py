"""Render the reference pages of the documentation from the code that they describe.

python scripts/reference.py            write them
python scripts/reference.py --check    exit with 1 if a committed page differs
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import slicemill
from slicemill import cli, errors, schemas
from slicemill.core.scans.integrity import Reason
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io import places
from slicemill.io.lake.tables import LakeTables
from slicemill.io.results import Results
from slicemill.io.run.record import RunRecord
from slicemill.io.scores.results import PredictedScan, PredictedSlice, ScoreTables, SliceScore

#: What the functions of the front door return, besides the classes that it names.
RETURNED = (
    Results,
    LakeTables,
    RunRecord,
    ScoreTables,
    SliceScore,
    PredictedScan,
    PredictedSlice,
    Scan,
    Slice,
)
DOCS = Path(__file__).parents[1] / "docs"
_HEAD = "<!-- Rendered by scripts/reference.py: change the code, then run `make docs`. -->"


def attribute_docs(owner: type) -> dict[str, str]:
    """Docstrings below the attributes of a class and its bases, by name, on one line each."""
    texts: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.startswith("slicemill"):
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
            texts |= {name: text for node in tree.body for name, text in _documented(node)}
    return texts


def _documented(owner: ast.AST) -> Iterator[tuple[str, str]]:
    statements = getattr(owner, "body", [])
    for attribute, text in itertools.pairwise(statements):
        match attribute, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                yield name, " ".join(words.split())


def commands() -> str:
    """Every verb with its options, from the dataclasses of `slicemill.config`."""
    parts = [
        "# Commands",
        "Each verb is `slicemill VERB`, `python jobs/VERB.py` and `spark-submit jobs/VERB.py`. In Python its "
        "options are the fields of a dataclass: `slicemill.IngestConfig(raw=(...), lake=...)`.",
    ]
    for name, verb in cli.VERBS.items():
        if name != "emr":
            parts.append(_command(name, verb.config, verb.positional))
    return "\n\n".join(parts)


def _command(name: str, config: type, positional: bool) -> str:
    texts = attribute_docs(config)
    rows = [
        (_option(field, positional), _type(field), _default(field), _cell(texts[field.name]))
        for field in dataclasses.fields(config)
    ]
    text = f"{inspect.getdoc(config)} In Python: `{config.__name__}`."
    return f"## {name}\n\n{text}\n\n{_grid(('option', 'type', 'default', 'meaning'), rows)}"


def _option(field: dataclasses.Field[Any], positional: bool) -> str:
    if positional and field.default is dataclasses.MISSING:
        return f"`{field.name.upper()} …`"
    return f"`--{'no-' if field.default is True else ''}{field.name.replace('_', '-')}`"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _type(field: dataclasses.Field[Any]) -> str:
    text = str(field.type)
    if text.startswith("Literal"):
        return " or ".join(f"`{choice}`" for choice in re.findall(r"'([^']+)'", text))
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "flag"}
    if text.startswith("tuple[str"):
        return "text, repeatable"
    return names.get(text.removesuffix(" | None"), text.replace("|", "or"))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    if field.default is None or field.default == ():
        return ""
    if isinstance(field.default, bool):
        return "on; the flag turns it off" if field.default else "off"
    return f"`{str(field.default).replace('|', '&#124;')}`"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("<", "&lt;")


def tables() -> str:
    """Every stored table with its columns, from `slicemill.schemas`."""
    stored = [value for value in vars(schemas).values() if isinstance(value, schemas.Table)]
    parts = [
        "# Tables",
        f"Schema version {schemas.SCHEMA_VERSION}. Every Parquet file carries the table's name and this "
        "version in its metadata. Images are uint8 in C order with axes (rows, columns, channels); masks are "
        "uint8, 0 or 1, with axes (rows, columns). A list per channel has the order of the channels.",
    ]
    return "\n\n".join([*parts, *map(_table, stored)])


def _table(table: schemas.Table) -> str:
    rows = [
        (f"`{column.name}`", _kind(column), column.unit, _cell(column.meaning)) for column in table.columns
    ]
    folders = f"Partitioned by `{', '.join(table.partition)}`.\n\n" if table.partition else ""
    return f"## {table.name}\n\n{folders}{_grid(('column', 'type', 'unit', 'meaning'), rows)}"


def _kind(column: schemas.Column) -> str:
    return f"{'list of ' if column.repeated else ''}{column.kind}{', may be null' if column.nullable else ''}"


def storage() -> str:
    """Where everything lies, from `slicemill.io.places`."""
    parts = ["# Storage", "Paths inside a lake, a run and the other folders that slicemill writes."]
    classes = [value for value in vars(places).values() if inspect.isclass(value)]
    parts += [_places(value) for value in classes if value.__module__ == places.__name__]
    return "\n\n".join(parts)


#: In place of numbers in paths.
_NUMBERS = {"epoch": 7, "rank": 0, "fold": 3}


def _places(owner: type) -> str:
    folder = owner(owner.__name__.upper())
    rows = []
    for name, member in vars(owner).items():
        if name.startswith("_") or not (isinstance(member, property) or inspect.isfunction(member)):
            continue
        path = getattr(folder, name)
        if callable(path):
            names = inspect.signature(path).parameters
            path = path(*(_NUMBERS.get(argument, argument.upper()) for argument in names))
        if isinstance(path, str):
            rows.append((f"`{path}`", _cell(_first(inspect.getdoc(member)))))
    title = _first(inspect.getdoc(owner)).removeprefix("Places ").capitalize()
    return f"## {title}\n\n{_grid(('path', 'what it holds'), rows)}"


def _first(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split()).rstrip(".")


def failures() -> str:
    """Every error with its exit code, and every reason of the quarantine."""
    codes = [
        ("0", "done"),
        ("1", "failed"),
        ("2", "bad arguments or configuration"),
        ("3", "done, but the data fell short of the limit that was set"),
    ]
    kinds = [value for value in vars(errors).values() if inspect.isclass(value)]
    exceptions = [
        (
            f"`{kind.__name__}`",
            f"`{kind.__bases__[0].__name__}`",
            str(kind.exit_code),
            _cell(_first(kind.__doc__)),
        )
        for kind in kinds
        if issubclass(kind, errors.SlicemillError)
    ]
    texts = attribute_docs(Reason)
    reasons = [(f"`{reason.value}`", _cell(texts[reason.name])) for reason in Reason]
    return "\n\n".join(
        [
            "# Errors",
            "A failure that you can mend is one line on standard error and in the summary: what was wrong, "
            "what was expected, what was found, and what to do. In Python it is an exception; "
            "`slicemill.SlicemillError` is the base of all of them.",
            _grid(("exit code", "meaning"), codes),
            "## Exceptions",
            _grid(("exception", "is a", "exit code", "raised for"), exceptions),
            "## Reasons of the quarantine",
            "A file or folder that is set aside has a row in the quarantine table, with one of these "
            "reasons.",
            _grid(("reason", "meaning"), reasons),
        ]
    )


def python() -> str:
    """The front door, from its docstrings and signatures."""
    functions, modules, classes = [], [], []
    for name in slicemill.__all__:
        value = getattr(slicemill, name)
        if inspect.isfunction(value):
            functions.append(_function(value, f"slicemill.{name}", "##"))
        elif inspect.ismodule(value):
            modules.append(_module(value, name))
        elif inspect.isclass(value) and not name.endswith("Config"):
            classes.append(_class(value))
    return "\n\n".join(
        [
            "# Python",
            "`import slicemill` costs nothing: each name is loaded when it is first used. Configurations "
            "have the options of the [commands](commands.md).",
            *functions,
            *classes,
            *map(_class, RETURNED),
            *modules,
        ]
    )


def _function(function: Callable[..., Any], name: str, level: str) -> str:
    call = f"{name}{_signature(function)}"
    return f"{level} {name.rpartition('.')[2]}\n\n```python\n{call}\n```\n\n{inspect.getdoc(function)}"


def _signature(function: Callable[..., Any]) -> str:
    """As written: annotations are text in every module."""
    signature = inspect.signature(function)
    arguments = [
        _parameter(parameter) for name, parameter in signature.parameters.items() if name not in _BOUND
    ]
    if any(parameter.kind is parameter.KEYWORD_ONLY for parameter in signature.parameters.values()):
        at = next(
            at for at, value in enumerate(signature.parameters.values()) if value.kind is value.KEYWORD_ONLY
        )
        arguments.insert(at - sum(name in _BOUND for name in signature.parameters), "*")
    return f"({', '.join(arguments)}) -> {signature.return_annotation}"


_BOUND = ("self", "cls")


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"


def _class(owner: type) -> str:
    parts = [f"## {owner.__name__}\n\n{inspect.getdoc(owner)}"]
    if dataclasses.is_dataclass(owner):
        rows = [
            (f"`{field.name}`", f"`{str(field.type).replace(' | ', ' or ')}`")
            for field in dataclasses.fields(owner)
        ]
        parts.append(_grid(("field", "type"), rows))
    for name, member in vars(owner).items():
        if name.startswith("_"):
            continue
        function = member.__func__ if isinstance(member, classmethod) else member
        if inspect.isfunction(function):
            parts.append(_function(function, f"{owner.__name__}.{name}", "###"))
        elif isinstance(member, property | cached_property):
            parts.append(f"### {name}\n\n{inspect.getdoc(member)}")
    return "\n\n".join(parts)


def _module(module: ModuleType, name: str) -> str:
    members = [(member, getattr(module, member)) for member in module.__all__]
    rows = [
        (f"`{name}.{member}`", _cell(_first(inspect.getdoc(value))))
        for member, value in members
        if callable(value)
    ]
    return f"## {name}\n\n{inspect.getdoc(module)}\n\n{_grid(('name', 'what it does'), rows)}"


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/python.md": python,
    "reference/tables.md": tables,
    "reference/errors.md": failures,
    "storage.md": storage,
}


def page(name: str) -> str:
    """The text of a page."""
    return f"{_HEAD}\n\n{PAGES[name]()}\n"


def main() -> int:
    """Write or compare all pages."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing")
    check = arguments.parse_args().check
    differing = 0
    for name in PAGES:
        path, text = DOCS / name, page(name)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        differing += 1
        print(f"{'differs' if check else 'written'}: docs/{name}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
