from tasks import probe


def test_probe(celery_pool_worker):
    assert probe.delay(0).get(timeout=10) == "answered"
    silent = [probe.delay(45) for _ in range(2)]
    assert [result.get(timeout=10) for result in silent] == ["no answer"] * 2
