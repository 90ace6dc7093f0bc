from tasks import convert


def test_convert(celery_pool_worker):
    results = [convert.delay(f"letter{i}.docx") for i in range(10)]
    assert [r.get(timeout=10) for r in results] == [f"letter{i}.pdf" for i in range(10)]
