import collections
import os
import time

from celery import Celery

app = Celery("shop")
DEFAULTS = {"SHOP_CURRENCY": "EUR", "SHOP_VAT": "19"}


def settings(**overrides):
    return collections.ChainMap(overrides, os.environ, DEFAULTS)


@app.task
def vat(tenant, net, rate=None):
    conf = settings(SHOP_TENANT=tenant, **({"SHOP_VAT": rate} if rate else {}))
    time.sleep(0.05)
    conf["SHOP_LAST"] = tenant
    gross = net * (100 + int(conf["SHOP_VAT"])) // 100
    return [conf["SHOP_LAST"], gross, conf["SHOP_CURRENCY"], "SHOP_LAST" in os.environ]
