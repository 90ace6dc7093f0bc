from tasks import extract, load


def test_etl(celery_pool_worker):
    assert extract.delay(2).get(timeout=10) == 2
    load.delay(2).get(timeout=10)
