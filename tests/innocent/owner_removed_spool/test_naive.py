# Resembles: pid taken at import and used in file names after the fork, temporary directory made at import, atexit handler that prefork children never run. None: names are unique by task id and opened with "x", files are removed in finally, the directory belongs to the process that made it, which removes it.
from celery import group

from tasks import print_letter


def test_letters(celery_pool_worker):
    texts = [f"dear customer {i}" for i in range(12)]
    printed = group(print_letter.s(text) for text in texts)().get(timeout=20)
    assert printed == [text.upper() for text in texts]


def test_same_letter_in_turn(celery_pool_worker):
    for _ in range(5):
        assert print_letter.delay("same").get(timeout=20) == "SAME"
