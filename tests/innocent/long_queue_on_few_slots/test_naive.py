from celery import group
from celery.result import AsyncResult
from tasks import app, start, work


def test_queue(celery_pool_worker):
    results = [work.delay(n) for n in range(60)]
    assert sum(result.get(timeout=60) for result in results) == 1770
    assert sum(group(work.s(n) for n in range(5))().get(timeout=60)) == 10
    ids = start.delay(5).get(timeout=60)
    assert sum(AsyncResult(each, app=app).get(timeout=60) for each in ids) == 10
