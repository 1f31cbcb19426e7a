from __future__ import annotations

from pathlib import Path

import pytest

from slicemill.config import CrossvalConfig, TrainConfig
from slicemill.errors import ConfigError, InputError
from slicemill.io.settings_file import read_settings, write_settings
from slicemill.io.storage.uri import canonical


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return str(path)


def test_values_have_the_types_of_the_settings(tmp_path: Path) -> None:
    found = read_settings(
        written(tmp_path, "learning_rate: 1e-4\ndropout: 0\nepochs: 3\naugment: false\nloss: dice-focal\n"
                          "image-size: 64\nmodel: null\n"),
        TrainConfig,
    )  # fmt: skip

    assert found == {
        "learning_rate": 1e-4,
        "dropout": 0.0,
        "epochs": 3,
        "augment": False,
        "loss": "dice-focal",
        "image_size": 64,
        "model": None,
    }
    assert isinstance(found["dropout"], float)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat: 1", "sets a name that is not a setting here.*found learning_rat"),
        ("parallel: 2", "sets a name that is not a setting here"),
        ("epochs: 1.5", "the setting epochs is of another type.*found 1.5"),
        ("epochs: true", "the setting epochs is of another type"),
        ("augment: 1", "the setting augment is of another type"),
        ("precision: fp8", "the setting precision is of another type"),
        ("learning_rate: fast", "the setting learning_rate is of another type"),
        ("- 1", "holds no settings"),
        ("a: [", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_settings(written(tmp_path, text), TrainConfig)


def test_what_was_written_is_read_and_a_missing_file_named(tmp_path: Path) -> None:
    uri = canonical(str(tmp_path / "best.yaml"))
    write_settings(uri, {"learning_rate": 1.5e-05, "parallel": 2}, "of a study\ntrial 3")

    assert (
        (tmp_path / "best.yaml").read_text().startswith("# of a study\n# trial 3\nlearning_rate: 1.5e-05\n")
    )
    assert read_settings(uri, CrossvalConfig) == {"learning_rate": 1.5e-5, "parallel": 2}
    with pytest.raises(InputError, match="can't be read"):
        read_settings(str(tmp_path / "none.yaml"), TrainConfig)
