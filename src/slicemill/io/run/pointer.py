"""A pointer: a small file that names the run in use. It is moved in one write, and remembers where it was.

`score`, `predict` and `report` follow it, so a schedule keeps its arguments while models come and go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from slicemill.errors import InputError, MissingFileError, ModelFileError
from slicemill.io import storage
from slicemill.io.run.card import Card, load_card
from slicemill.io.run.registry import is_registered, registered_run
from slicemill.io.schema_version import require_schema_version
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.uri import canonical, display, stored_uri
from slicemill.schemas import SCHEMA_VERSION
from slicemill.types import Uri

KIND = "slicemill pointer"


@dataclass(frozen=True)
class Move:
    """One move of a pointer: to which run and model, by promote or rollback, and when (ISO 8601, UTC)."""

    act: Literal["promote", "rollback"]
    run: str
    model_id: str
    time: str

    @classmethod
    def now(cls, act: Literal["promote", "rollback"], run: Uri, model_id: str) -> Move:
        """A move that is made at this moment."""
        return cls(act, run, model_id, datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True)
class Pointer:
    """Where a pointer lies, and all its moves, the oldest first."""

    uri: Uri
    moves: tuple[Move, ...] = ()

    @property
    def current(self) -> Move | None:
        """The last move; None before the first."""
        return self.moves[-1] if self.moves else None

    @property
    def previous(self) -> Move | None:
        """The promotion that a rollback goes back to; None if there is none."""
        promotions: list[Move] = []
        for move in self.moves:
            if move.act == "promote":
                promotions.append(move)
            else:
                del promotions[-1:]
        return promotions[-2] if len(promotions) > 1 else None

    def moved(self, move: Move) -> Pointer:
        """The pointer after a move."""
        return dataclasses.replace(self, moves=(*self.moves, move))


@dataclass(frozen=True)
class NamedModel:
    """The run that a name stands for; `pointer` is the pointer or registered name that was followed."""

    run: Uri
    card: Card
    pointer: str | None = None


def read_pointer(uri: Uri) -> Pointer:
    """Read a pointer; raise InputError for a file that is none, LakeVersionError for a later one."""
    stored = storage.read_json(uri)
    if not isinstance(stored, dict) or stored.get("kind") != KIND:
        raise _broken(uri, "another JSON file")
    require_schema_version(stored, display(uri), "Read it with the release that wrote it.")
    try:
        moves = tuple(_move(row) for row in stored["moves"])
    except (LookupError, TypeError, ValueError) as error:
        raise _broken(uri, f"moves that can't be read: {type(error).__name__}") from error
    return Pointer(uri, moves)


def _move(row: Mapping[str, Any]) -> Move:
    move = Move(**row)
    if move.act not in ("promote", "rollback") or not all(isinstance(text, str) for text in row.values()):
        raise ValueError("not a move")
    stored_uri(move.run)
    return move


def _broken(uri: Uri, actual: str) -> InputError:
    return InputError(
        f"{display(uri)} is not a pointer to a model",
        expected="a file that slicemill promote wrote",
        found=actual,
        advice="Give another --as, or promote a run.",
    )


def write_pointer(fence: Fence, pointer: Pointer) -> None:
    """Move a pointer: one write, while its folder's lock is held. Raises LockLostError if it no longer is."""
    stored = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "moves": [dataclasses.asdict(move) for move in pointer.moves],
    }
    fence.write_json(pointer.uri, stored)


def open_model(text: str) -> NamedModel:
    """The model that a person named: by its run's folder, by a pointer, or as models:/NAME@ALIAS in MLflow.

    Raises ModelFileError if there is no model, or the run holds another one than was promoted.
    """
    if is_registered(text):
        run = canonical(registered_run(text))
        return NamedModel(run, load_card(run), text)
    uri = canonical(text)
    try:
        return NamedModel(uri, load_card(uri))
    except ModelFileError as error:
        if not isinstance(error.__cause__, MissingFileError) or not storage.exists(uri):
            raise
    current = read_pointer(uri).current
    if current is None:
        raise _broken(uri, "no promoted run")
    return promoted_model(uri, current)


def promoted_model(pointer: Uri, move: Move) -> NamedModel:
    """The model that a move of a pointer names; raise ModelFileError if its run holds another one by now."""
    run = stored_uri(move.run)
    card = load_card(run)
    if card.model_id != move.model_id:
        raise ModelFileError(
            f"{display(run)} was trained again since it was promoted",
            expected=f"model {move.model_id}",
            found=f"model {card.model_id}",
            advice=f"Promote it again as {display(pointer)}.",
        )
    return NamedModel(run, card, display(pointer))


def followed(text: str) -> Uri:
    """The run that a pointer or registered name stands for; any other URI as it is, model or not."""
    if is_registered(text) or storage.exists(canonical(text)):
        return open_model(text).run
    return canonical(text)
