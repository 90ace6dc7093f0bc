from tasks import watch


def test_watch(celery_pool_worker):
    assert watch.delay("film").get(timeout=10) in ("ready", "gave up")
