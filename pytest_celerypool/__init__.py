"""Run a Celery project's tests under real workers of every execution pool."""

__version__ = "0.1.0"
