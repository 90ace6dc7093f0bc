from tasks import forecast


def test_forecasts(celery_pool_worker):
    results = [forecast.delay(number) for number in (200_000, 250_000, 300_000)]
    assert [result.get(timeout=10) for result in results] == [200_000, 250_000, 300_000]
