from tasks import receipt


def test_numbers(celery_pool_worker, tmp_path):
    path = str(tmp_path / "last")
    jobs = [receipt.delay(path) for _ in range(3)]
    assert sorted(j.get(timeout=10) for j in jobs) == [1, 2, 3]
