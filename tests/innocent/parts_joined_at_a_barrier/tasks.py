"""Parts of a picture that are worked on by threads of the task's own, which meet before they are joined."""

import threading

from celery import Celery

app = Celery("pictures")


def work(parts, number, meeting, joined):
    parts[number] *= 2
    try:
        meeting.wait(timeout=2)
    except threading.BrokenBarrierError:
        return
    joined.append(sum(parts))


@app.task
def enlarge(parts, given_up=False):
    meeting, joined = threading.Barrier(len(parts)), []
    if given_up:
        meeting.abort()
    threads = [threading.Thread(target=work, args=(parts, each, meeting, joined)) for each in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not joined:
        raise threading.BrokenBarrierError("given up")
    return joined[0]
