from tasks import accept


def test_accept(celery_pool_worker):
    results = [accept.delay(amount) for amount in (10, 499, 501)]
    assert [result.get(timeout=10) for result in results] == ["accepted", "accepted", "too much"]
