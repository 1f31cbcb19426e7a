"""The errors that slicemill raises for its users' data, arguments and machines.

SlicemillError                exit 1   something was wrong that a user can mend
├── ConfigError               exit 2   an argument or a configuration key
├── InputError                exit 1   a path, a folder or a table that is given as input
│   ├── LakeVersionError      exit 1   a lake, run or score folder of another schema version
│   ├── ModelFileError        exit 1   a model file or card that can't be trusted or read
│   ├── BadImageError         (caught) one image file; becomes a quarantine row
│   └── MissingFileError      exit 1   a file that is not there, as storage itself confirms
├── StorageError              exit 1   storage refused or did not answer; says nothing about what is stored
├── MachineError              exit 1   Java, Python, cores, devices, connectors
├── BusyError                 exit 1   another run holds the lake, the run or the score folder
│   └── LockLostError         exit 1   this run held it, and does no more
└── TrainingError             exit 1   a rank died, rows went missing, the loss is not finite
"""

from __future__ import annotations


class SlicemillError(Exception):
    """A failure that the user can mend: says what was wrong, expected, found, and what to do."""

    exit_code = 1

    def __init__(
        self,
        problem: str,
        *,
        expected: object = None,
        found: object = None,
        advice: str | None = None,
    ) -> None:
        self.problem = problem
        self.expected = expected
        self.found = found
        self.advice = advice
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.problem.rstrip(".")]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        sentence = "; ".join(parts) + "."
        return f"{sentence} {self.advice}" if self.advice else sentence

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.problem, self.expected, self.found, self.advice))


def _rebuild(
    kind: type[SlicemillError], problem: str, expected: object, found: object, advice: str | None
) -> SlicemillError:
    return kind(problem, expected=expected, found=found, advice=advice)


class ConfigError(SlicemillError):
    """An argument or a configuration key is wrong."""

    exit_code = 2


class InputError(SlicemillError):
    """A path, folder or table that was given as input is missing, empty or unreadable."""


class LakeVersionError(InputError):
    """Stored data carries a schema version that this release does not read."""


class ModelFileError(InputError):
    """A model file or its card can't be read, or they do not belong together."""


class MissingFileError(InputError):
    """A file is not there, and storage says so itself."""


class StorageError(SlicemillError):
    """Storage refused or did not answer: rights, keys, archives, outages, limits of the machine.

    It says nothing about what is stored, so nothing is set aside or taken for missing because of it.
    """


class MachineError(SlicemillError):
    """The machine lacks something: Java, a Python version, cores, a device, a connector."""


class BusyError(SlicemillError):
    """Another run is writing to the same lake, run or score folder."""


class LockLostError(BusyError):
    """This run no longer holds its folder, and has to end at once."""


class TrainingError(SlicemillError):
    """A training run can't go on: a dead rank, missing rows, a loss that is not finite."""
