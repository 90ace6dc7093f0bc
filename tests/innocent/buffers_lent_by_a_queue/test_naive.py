import hashlib

from tasks import digest


def test_digest(celery_pool_worker, tmp_path):
    contents = {name: name.encode() * 1000 * number for number, name in enumerate("abcdef", 1)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    results = {name: digest.delay(str(tmp_path / name)) for name in contents}
    for name, result in results.items():
        assert result.get(timeout=10) == hashlib.sha256(contents[name]).hexdigest()
