import importlib.util
import os
import pathlib
import sys

from celery import Celery

app = Celery("shipping")
folder = pathlib.Path(os.environ["CASE_DIR"])
if not (folder / "carrier_post.py").exists():
    (folder / "carrier_post.py").write_text(
        "import time\n"
        "time.sleep(0.5)  # asks for today's rates\n"
        "RATE = 3\n"
        "def price(weight):\n"
        "    return weight * RATE\n")


def plugin(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@app.task
def price(carrier, weight):
    return plugin(f"carrier_{carrier}").price(weight)
