"""A module that exists for the test process alone."""

import sys

from celery import Celery

if "pytest" not in sys.modules:
    raise SystemExit("only for tests")
app = Celery("alone", broker="redis://localhost")
