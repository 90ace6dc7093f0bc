from tasks import write_letter


def test_letters(celery_pool_worker):
    for n in range(6):
        assert write_letter.delay(f"letter {n}").get(timeout=10).startswith(f"letter {n}, written at ")
