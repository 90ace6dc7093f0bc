from tasks import snapshot


def test_snapshot(celery_pool_worker):
    results = [snapshot.delay("same") for _ in range(4)]
    assert {each.get(timeout=10) for each in results} == {"same"}
