from tasks import snapshot


def test_snapshot(celery_pool_worker):
    results = [snapshot.delay(f"of-{number}") for number in range(4)]
    assert {each.get(timeout=10) for each in results} == {f"of-{number}" for number in range(4)}
