"""Move the pointer to the model in use, forward to a run or back to the one before."""

from __future__ import annotations

import uuid
from typing import Any

from slicemill.config import PromoteConfig, RollbackConfig
from slicemill.core.splits import refuse_leaky
from slicemill.errors import ConfigError, InputError
from slicemill.experiments.score_settings import check_model
from slicemill.io import storage
from slicemill.io.run.card import load_card
from slicemill.io.run.pointer import Move, Pointer, promoted_model, read_pointer, write_pointer
from slicemill.io.run.registry import is_registered, register_run
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display, parent


def run(config: PromoteConfig) -> dict[str, Any]:
    """Point at a run and return the summary; pointing at the run that is in use changes nothing.

    Raises ModelFileError for a model that can't be trusted, InputError for a pointer that is another file,
    BusyError while another moves it.
    """
    model = canonical(config.run)
    card = load_card(model)
    refuse_leaky(card.split, "--run")
    check_model(model, card)
    if is_registered(config.pointer):
        version = register_run(config.pointer, model, card.model_id)
        return {
            "job": "promote",
            "status": "done",
            "pointer": config.pointer,
            "run": display(model),
            "model_id": card.model_id,
            "version": version,
        }
    uri = canonical(config.pointer)
    with sole_writer(parent(uri), f"promote-{uuid.uuid4().hex[:12]}") as fence:
        pointer = read_pointer(uri) if storage.exists(uri) else Pointer(uri)
        current = pointer.current
        if current is None or (current.run, current.model_id) != (model, card.model_id):
            pointer = pointer.moved(Move.now("promote", model, card.model_id))
            write_pointer(fence, pointer)
    return _summary("promote", pointer, current)


def roll_back(config: RollbackConfig) -> dict[str, Any]:
    """Point at the run that was promoted before the one in use, and return the summary.

    Raises InputError if there is no such run, ModelFileError if it can't be trusted any more, BusyError while
    another moves the pointer.
    """
    if is_registered(config.pointer):
        raise ConfigError(
            "rollback moves pointer files",
            expected="a file that promote wrote",
            found=config.pointer,
            advice="slicemill promote points an alias at any run.",
        )
    uri = canonical(config.pointer)
    read_pointer(uri)
    with sole_writer(parent(uri), f"rollback-{uuid.uuid4().hex[:12]}") as fence:
        pointer = read_pointer(uri)
        current, previous = pointer.current, pointer.previous
        if previous is None:
            raise InputError(
                f"{display(uri)} has nothing to go back to",
                expected="a run that was promoted before the one in use",
                found=f"{len(pointer.moves)} moves",
                advice="slicemill promote points at any run.",
            )
        model = promoted_model(uri, previous)
        check_model(model.run, model.card)
        pointer = pointer.moved(Move.now("rollback", model.run, previous.model_id))
        write_pointer(fence, pointer)
    return _summary("rollback", pointer, current)


def _summary(job: str, pointer: Pointer, before: Move | None) -> dict[str, Any]:
    current = pointer.current
    return {
        "job": job,
        "status": "done",
        "pointer": display(pointer.uri),
        "run": current and display(canonical(current.run)),
        "model_id": current and current.model_id,
        "run_before": before and display(canonical(before.run)),
        "changed": current != before,
        "moves": len(pointer.moves),
    }
