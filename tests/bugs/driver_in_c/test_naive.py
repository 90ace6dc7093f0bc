from tasks import forecast


def test_forecast(celery_pool_worker):
    assert forecast.delay(250_000, 300_000).get(timeout=10) == [250_000, 300_000]
