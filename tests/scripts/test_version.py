from __future__ import annotations

from importlib.metadata import version

import slicemill


def test_the_installed_version_is_the_packages_own() -> None:
    assert version("slicemill") == slicemill.__version__
