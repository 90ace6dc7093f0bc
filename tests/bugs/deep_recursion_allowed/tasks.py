import sys

from celery import Celery

app = Celery("trees")


def depth(tree):
    return 1 + max((depth(branch) for branch in tree), default=0)


@app.task
def measure(levels):
    sys.setrecursionlimit(10 * levels + 2000)
    tree = []
    for _ in range(levels):
        tree = [tree]
    return depth(tree)
