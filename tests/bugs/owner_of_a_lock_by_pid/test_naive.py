from tasks import acquire


def test_acquire(celery_pool_worker):
    results = [acquire.delay(name) for name in ("a", "b")]
    assert [each.get(timeout=10)[0] for each in results] == ["a", "b"]
