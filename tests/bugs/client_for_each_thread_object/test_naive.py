from tasks import signup


def test_signup(celery_pool_worker):
    assert [signup.delay(n).get(timeout=20) for n in range(6)] == [1000, 1001, 1002, 1003, 1004, 1005]
