from tasks import letter


def test_letters(celery_pool_worker):
    assert letter.delay("acme").get(timeout=5) == "from acme"
    plain = [letter.delay() for _ in range(4)]
    assert {p.get(timeout=8) for p in plain} == {"from house"}
