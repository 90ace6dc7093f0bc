from tasks import hit, total


def test_total(celery_pool_worker):
    before = total.delay("/index").get(timeout=10)
    for result in [hit.delay("/index") for _ in range(6)]:
        result.get(timeout=10)
    assert total.delay("/index").get(timeout=10) == before + 6
