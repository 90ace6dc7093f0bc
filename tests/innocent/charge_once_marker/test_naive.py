import collections
import pathlib
import tempfile

from celery import group
from tasks import charge


def test_charged_once(celery_pool_worker):
    with tempfile.TemporaryDirectory() as folder:
        results = group(charge.s(folder, "o1") for _ in range(5)).delay().get(timeout=10)
        assert collections.Counter(results) == {"charged": 1, "already charged": 4}
        assert pathlib.Path(folder, "o1.done").read_text() == "charged"
