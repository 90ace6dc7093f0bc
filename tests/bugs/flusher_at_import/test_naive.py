from tasks import sign_up


def test_sign_up(celery_pool_worker):
    assert sign_up.delay("ann").get(timeout=10) == "ann"
