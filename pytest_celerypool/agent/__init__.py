"""What runs inside a worker process: it records, it never judges.

Everything here may be imported by a process that has no pytest. Nothing of the package but
:mod:`pytest_celerypool.trace`'s record format is imported from here.
"""
