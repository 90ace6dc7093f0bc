from tasks import collect


def test_collect(celery_pool_worker, tmp_path):
    lists = [["a", "b", "c"], ["d", "e"], ["f", "g", "h", "i"]]
    results = [collect.delay(str(tmp_path), lines) for lines in lists]
    assert [result.get(timeout=10) for result in results] == lists
