from tasks import sign_up


def test_sign_up(celery_pool_worker):
    for name in ("ann", "bob", "eve"):
        assert sign_up.delay(name).get(timeout=10) == 3
