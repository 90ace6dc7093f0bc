from tasks import letter


def test_letter(celery_pool_worker):
    a, b = letter.delay("Ann"), letter.delay("Bob")
    assert a.get(timeout=10) == "de: Ann"
    assert b.get(timeout=10) == "de: Bob"
