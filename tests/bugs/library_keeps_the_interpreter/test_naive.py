import time

from tasks import greet, scan


def test_greeting_while_a_disk_is_scanned(celery_pool_worker):
    scanned = scan.delay("sda")
    time.sleep(0.2)
    assert greet.delay("Ann").get(timeout=10) == "Good morning, Ann."
    assert scanned.get(timeout=10) == "sda"
