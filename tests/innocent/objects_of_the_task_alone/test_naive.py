from tasks import load


def test_load(celery_pool_worker):
    results = [load.delay(source) for source in ("a", "b", "c")]
    assert [each.get(timeout=10) for each in results] == [["a"], ["b"], ["c"]]
