from tasks import translate


def test_translate(celery_pool_worker):
    results = [translate.delay("de", "en", "a"), translate.delay("en", "de", "b")]
    assert [result.get(timeout=10) for result in results] == ["en(de(a))", "de(en(b))"]
