from tasks import nightly


def test_nightly(celery_pool_worker):
    assert nightly.delay().get(timeout=10) is False
