from tasks import child, ignored, rejected, script, stopped


def test_ends(celery_pool_worker):
    assert script.delay([]).get(timeout=30) == "status 2"
    assert child.delay(4).get(timeout=30) == 4
    assert stopped.delay(20).get(timeout=30) == -15
    ignored.delay()
    rejected.delay()
