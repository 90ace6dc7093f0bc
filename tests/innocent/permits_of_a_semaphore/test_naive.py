from tasks import send


def test_send(celery_pool_worker):
    results = [send.delay(["a", "b"]) for _ in range(5)]
    assert [result.get(timeout=10) for result in results] == [["250 a", "250 b"]] * 5
