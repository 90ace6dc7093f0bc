from tasks import to_xml


def test_to_xml(celery_pool_worker):
    results = [to_xml.delay(count) for count in (1, 2, 3, 4)]
    for count, result in enumerate(results, 1):
        text = result.get(timeout=10)
        assert text.startswith('<ord:orders xmlns:ord="urn:orders">') and text.count("150000") == count
