from tasks import letter


def test_letter(celery_pool_worker):
    a, b = letter.delay("Ann", "kind"), letter.delay("Bob", "curt")
    assert a.get(timeout=10) == "de, kind: Ann"
    assert b.get(timeout=10) == "de, curt: Bob"
