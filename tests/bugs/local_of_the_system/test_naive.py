from tasks import greet


def test_greetings(celery_pool_worker):
    results = [greet.delay(name) for name in ("ann", "bob")]
    assert [result.get(timeout=10) for result in results] == ["hello ann", "hello bob"]
