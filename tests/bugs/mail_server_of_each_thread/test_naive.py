from tasks import deliver, logins


def test_deliver(celery_pool_worker):
    for number in range(5):
        assert deliver.delay(f"{number}@example.org").get(timeout=10) == f"{number}@example.org by way of localhost"
    assert logins.delay().get(timeout=10) in (0, 1, 2, 3, 4, 5)
