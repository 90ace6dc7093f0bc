from tasks import words


def test_words(celery_pool_worker):
    jobs = [("ab"[number % 2], ["x%d y" % number, "z%d" % number]) for number in range(8)]
    results = [words.delay(*job) for job in jobs]
    assert [result.get(timeout=10) for result in results] == [
        ["x%d" % number, "y", "z%d" % number] for number in range(8)]
