from tasks import tax


def test_tax(celery_pool_worker):
    results = [tax.delay(country, 1) for country in ("de", "fr", "de")]
    assert [each.get(timeout=10) for each in results] == [19, 20, 19]
