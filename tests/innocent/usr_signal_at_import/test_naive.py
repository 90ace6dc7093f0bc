from celery import group
from tasks import restock


def test_restock(celery_pool_worker):
    assert group(restock.s(i) for i in ("tea", "salt", "rice")).delay().get(timeout=10) == ["TEA", "SALT", "RICE"]
