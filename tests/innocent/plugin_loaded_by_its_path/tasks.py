import os
import time
from importlib import util

from celery import Celery

app = Celery("tasks")


def plugin(folder):
    spec = util.spec_from_file_location("plugin", os.path.join(folder, "plugin.py"))
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@app.task
def price(folder, net):
    tenant = plugin(folder)
    time.sleep(0.1)  # the article is fetched
    return tenant.gross(net)
