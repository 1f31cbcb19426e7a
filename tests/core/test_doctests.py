"""The examples in the core's docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import slicemill.core

MODULES = [info.name for info in pkgutil.walk_packages(slicemill.core.__path__, "slicemill.core.")]
EXAMPLES = {name: doctest.DocTestFinder().find(importlib.import_module(name)) for name in MODULES}


def test_the_core_has_examples():
    assert sum(len(test.examples) for tests in EXAMPLES.values() for test in tests) >= 6


@pytest.mark.parametrize("name", [name for name in MODULES if any(test.examples for test in EXAMPLES[name])])
def test_the_examples_of_a_module_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
