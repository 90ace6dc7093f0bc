"""Configuration of Sphinx."""

import sys
from pathlib import Path

import pytest_celerypool

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pytest-celerypool"
author = "the authors of pytest-celerypool"
version = release = pytest_celerypool.__version__

extensions = ["sphinx.ext.autodoc", "celerypool_docs"]
exclude_patterns = ["_build", "examples"]
default_role = "code"
smartquotes = False  # it would make a dash of the two hyphens of an option
html_theme = "furo"
html_title = f"pytest-celerypool {release}"
html_copy_source = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
