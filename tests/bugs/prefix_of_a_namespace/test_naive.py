from tasks import invoice


def test_invoice(celery_pool_worker):
    results = {country: invoice.delay(country, ["a", "b"]) for country in ("de", "fr", "it")}
    for country, result in results.items():
        assert result.get(timeout=10).startswith('<inv:invoice xmlns:inv="urn:invoice:%s">' % country)
