from tasks import letter


def test_letters(celery_pool_worker):
    results = [letter.delay(f"Dear {name}", "1.50") for name in "abcd"]
    assert [result.get(timeout=10) for result in results] == [f'[["Dear {name}", "--"], "1.50"]' for name in "abcd"]
