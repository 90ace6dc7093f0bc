from tasks import send_code


def test_three_codes_a_number(celery_pool_worker):
    results = [send_code.delay("+4915112345") for _ in range(8)]
    answers = [result.get(timeout=10) for result in results]
    assert answers.count("sent") == 3
