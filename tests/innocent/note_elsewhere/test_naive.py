from celery import group
from tasks import note


def test_note(celery_pool_worker, tmp_path):
    path = str(tmp_path / "journal.db")
    assert group(note.s(path, str(n)) for n in range(3)).delay().get(timeout=12) == ["0", "1", "2"]
