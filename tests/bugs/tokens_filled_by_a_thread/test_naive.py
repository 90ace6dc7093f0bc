from tasks import send_sms


def test_send_sms(celery_pool_worker):
    results = [send_sms.delay(number) for number in range(8)]
    assert [result.get(timeout=8) for result in results] == [f"sent to {number}" for number in range(8)]
