import multiprocessing

from celery import Celery

app = Celery("primes")


@app.task
def squares(values):
    process = multiprocessing.get_context("fork").Process(target=sum, args=(values,))
    process.start()
    process.join()
    return process.exitcode
