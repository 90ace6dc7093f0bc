from tasks import text


def test_text(celery_pool_worker):
    results = [text.delay(f"no {i}") for i in range(12)]
    assert [r.get(timeout=10) for r in results] == [f"sent no {i}" for i in range(12)]
