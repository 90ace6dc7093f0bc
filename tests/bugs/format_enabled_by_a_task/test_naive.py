from tasks import enable, export


def test_export(celery_pool_worker):
    assert enable.delay("tsv", "|").get(timeout=10) == "tsv"
    results = [export.delay("tsv", [letter, "z"]) for letter in "abcdef"]
    assert [result.get(timeout=10) for result in results] == [letter + "|z" for letter in "abcdef"]
