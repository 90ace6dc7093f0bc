from celery import group
from tasks import greet


def test_greet(celery_pool_worker):
    results = group(greet.s(l) for l in ("de", "en", "de", "de", "en")).delay().get(timeout=10)
    assert results == [f"hello:{l}" for l in ("de", "en", "de", "de", "en")]
