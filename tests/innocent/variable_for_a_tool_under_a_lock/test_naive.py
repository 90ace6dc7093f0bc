from tasks import count, scan


def test_scans(celery_pool_worker):
    counts = [count.delay() for _ in range(2)]
    assert [each.get(timeout=10) for each in [scan.delay(name) for name in "abc"]] == ["a", "b", "c"]
    assert [each.get(timeout=10) for each in counts] == [5, 5]
