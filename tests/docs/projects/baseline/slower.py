"""A change that makes the task of the page slower, as a plugin: it is made before the run."""

from pathlib import Path

MODULE = Path("reports.py")
MODULE.write_text(MODULE.read_text().replace("0.02", "0.06"))
