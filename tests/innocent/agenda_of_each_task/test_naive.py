from tasks import announce


def test_announce(celery_pool_worker):
    a, b = announce.delay("one", "two"), announce.delay("three")
    assert a.get(timeout=10) == ["one", "two"]
    assert b.get(timeout=10) == ["three"]
