from tasks import export, pack, read


def test_pack(celery_pool_worker):
    for number in range(6):
        assert pack.delay("x" * number).get(timeout=10) == number


def test_export(celery_pool_worker):
    paths = [export.delay(f"text {number}").get(timeout=10) for number in range(8)]
    assert [read.delay(path).get(timeout=10) for path in paths] == [f"text {number}" for number in range(8)]
