from tasks import answer, run_program


def test_a_program_beside_an_answer(celery_pool_worker):
    program = run_program.delay(0.4)
    assert answer.delay().get(timeout=10) == 42
    assert program.get(timeout=10) == 0
