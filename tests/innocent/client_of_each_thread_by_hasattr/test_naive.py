from tasks import report, upload


def test_uploads(celery_pool_worker):
    sent = [upload.delay(f"{number}.png") for number in range(6)]
    assert [each.get(timeout=10) for each in sent] == [f"s3://{number}.png" for number in range(6)]


def test_reports(celery_pool_worker):
    sent = [report.delay() for _ in range(4)]
    assert [each.get(timeout=10) for each in sent] == [3] * 4
