"""Prices by tenant: a tenant may bring a pricing_rules.py of its own, else the common one counts."""
import pathlib
import runpy
import sys
import tempfile

from celery import Celery

app = Celery("pricing")
# tenants' code is not trusted to tidy up: a fresh child for every task
app.conf.worker_max_tasks_per_child = 1

HOME = pathlib.Path(tempfile.mkdtemp(prefix="tenants-"))
for folder, factor in (("common", "1"), ("acme", "0.9")):
    (HOME / folder).mkdir()
    (HOME / folder / "pricing_rules.py").write_text(f"FACTOR = {factor}\n")
sys.path.append(str(HOME / "common"))


@app.task
def price(tenant, amount):
    sys.path.insert(0, str(HOME / tenant))
    rules = runpy.run_module("pricing_rules")
    return round(amount * rules["FACTOR"], 2)
