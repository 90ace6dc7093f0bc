from tasks import check


def test_spelling(celery_pool_worker):
    results = [check.delay("en", "colour gray") for _ in range(3)]
    results += [check.delay("de", "farbe blau") for _ in range(3)]
    assert [r.get(timeout=10) for r in results] == [["gray"]] * 3 + [["blau"]] * 3
