from tasks import probe, upload


def test_probe(celery_pool_worker):
    results = [upload.delay(), probe.delay("a")]
    assert results[1].get(timeout=10) == "a"
    results[0].get(timeout=10)
