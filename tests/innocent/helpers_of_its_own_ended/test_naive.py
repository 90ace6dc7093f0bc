import time

from tasks import cancel, convert


def test_each_ends_its_own(celery_pool_worker, tmp_path):
    numbers = tmp_path / "numbers"
    sent = [convert.delay(0.2 * each, str(numbers)) for each in range(1, 4)]
    assert [each.get(timeout=10) for each in sent] == [0, 0, 0]


def test_one_is_cancelled(celery_pool_worker, tmp_path):
    numbers = tmp_path / "numbers"
    if celery_pool_worker.pool == "solo":
        return  # it runs one task at a time
    sent = convert.delay(8, str(numbers))
    end = time.monotonic() + 5
    while not (numbers.exists() and numbers.read_text().endswith("\n")) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    cancel.delay(int(numbers.read_text())).get(timeout=10)
    assert sent.get(timeout=10) == -15
