from tasks import set_password


def test_password(celery_pool_worker):
    assert set_password.delay("secret").get(timeout=10) == 64
