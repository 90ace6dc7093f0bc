from tasks import convert, tidy


def test_a_failed_conversion_is_reported(celery_pool_worker):
    conversion = convert.delay("clip.avi", 3)
    cleaning = tidy.delay()
    cleaning.get(timeout=10)
    assert conversion.get(timeout=10) == 3
