"""A training run as its readers see it: card, epochs, learning-rate finder, pictures of predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slicemill.core.splits import refuse_leaky
from slicemill.core.training.records import EpochLine, RateSearch, parse_epochs
from slicemill.core.training.selection import leading_epoch
from slicemill.errors import ModelFileError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import Card, card_uri, load_card
from slicemill.io.storage.uri import display
from slicemill.types import Uri

_EXAMPLES = re.compile(r"examples-epoch-(\d+)\.png")


@dataclass(frozen=True)
class RunRecord:
    """A run's card, None until training has ended, and the lines of its metrics, an epoch each.

    `rates` is what the learning-rate finder measured, None if it did not run. `examples` are URIs of pictures
    of predictions by their epoch.
    """

    home: Uri
    card: Card | None
    epochs: tuple[EpochLine, ...]
    rates: RateSearch | None = None
    examples: Mapping[int, Uri] = field(default_factory=dict)

    def example_files(self, epochs: Sequence[int]) -> list[bytes]:
        """The PNG files of predictions after these epochs, each of which is in `examples`."""
        return storage.each(lambda epoch: storage.read_bytes(self.examples[epoch]), epochs, self.home)


def read_run(home: Uri, *, leaky: bool = False) -> RunRecord:
    """Read the card, metrics and pictures of the run at a canonical URI, as far as training has come.

    Raises InputError if there is no such folder, ConfigError for a model of a split that leaks on purpose,
    unless `leaky`.
    """
    metrics, rates = Run(home).metrics, Run(home).learning_rates
    card = load_card(home) if storage.exists(card_uri(home)) else None
    if card is not None and not leaky:
        refuse_leaky(card.split, display(home))
    epochs = _read_epochs(metrics) if storage.exists(metrics) else ()
    learning_rates = RateSearch.from_json(storage.read_json(rates)) if storage.exists(rates) else None
    if card is None and not epochs and learning_rates is None:
        storage.list_files(home)
    return RunRecord(home, card, epochs, learning_rates, _examples(home, epochs))


def _examples(home: Uri, epochs: Sequence[EpochLine]) -> dict[int, Uri]:
    """Pictures by epoch, those that this run drew: an earlier run of the folder may have left others.

    Training draws when an epoch leads, and after the last one.
    """
    names = {file.uri.rpartition("/")[2]: file.uri for file in storage.list_or_none(Run(home).figures)}
    by_epoch = {int(match[1]): uri for name, uri in names.items() if (match := _EXAMPLES.fullmatch(name))}
    return {epoch: uri for epoch, uri in by_epoch.items() if _is_drawn(epoch, epochs)}


def _is_drawn(epoch: int, epochs: Sequence[EpochLine]) -> bool:
    return epoch == len(epochs) or (epoch < len(epochs) and leading_epoch(epochs[:epoch]) == epoch)


def _read_epochs(uri: Uri) -> tuple[EpochLine, ...]:
    try:
        return parse_epochs(storage.read_bytes(uri).decode())
    except (ValueError, TypeError) as error:
        raise ModelFileError(
            f"{display(uri)} can't be read", expected="one JSON object a line", found=str(error)
        ) from error
