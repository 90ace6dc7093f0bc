from tasks import words


def test_words(celery_pool_worker):
    results = [words.delay("a b") for _ in range(3)]
    assert [each.get(timeout=10) for each in results] == [["a", "b"]] * 3
