"""When a session of SQLAlchemy is told of in which one task goes on with the work of another."""

import types

import pytest
import sqlalchemy
from sqlalchemy import orm

from pytest_celerypool.agent.detectors.state.sessions import Sessions
from pytest_celerypool.agent.frames import Frames

METADATA = sqlalchemy.MetaData()
TABLE = sqlalchemy.Table("guests", METADATA, sqlalchemy.Column("name", sqlalchemy.String, primary_key=True))


class Guest:
    def __init__(self, name):
        self.name = name


orm.registry().map_imperatively(Guest, TABLE)


class Slot:
    """The detector in a slot whose task changes, and what it has reported."""

    def __init__(self, root):
        self.told, self.task, self.beside = [], None, []
        watch = types.SimpleNamespace(
            frames=Frames(root),
            pool=types.SimpleNamespace(name="threads"),
            current=lambda: self.task,
            running=lambda: [*self.beside, *([self.task] if self.task else [])],
            guarded=lambda _, callback: callback,
            report=lambda kind, run, *_, others: self.told.append((kind, run.id, [other.id for other in others])),
        )
        self.detector = Sessions(watch)
        self.detector.begin()

    def begin(self, name, *beside):
        self.beside = list(beside)
        self.task = types.SimpleNamespace(id=name, task=types.SimpleNamespace(name=f"tasks.{name}"))
        return self.task


@pytest.fixture
def slot(tmp_path):
    made = Slot(str(tmp_path))
    yield made
    made.detector.remove()


@pytest.fixture
def session():
    engine = sqlalchemy.create_engine(
        "sqlite://", poolclass=sqlalchemy.pool.StaticPool, connect_args={"check_same_thread": False}
    )
    METADATA.create_all(engine)
    with orm.Session(engine) as made:
        yield made
    engine.dispose()


def test_a_task_that_writes_what_it_added_shows_nothing(slot, session):
    slot.begin("a")
    session.add(Guest("ann"))
    session.commit()
    assert slot.told == []


def test_what_a_task_left_and_the_next_one_wrote_is_left(slot, session):
    slot.begin("a")
    session.add(Guest("ann"))
    slot.begin("b")
    session.commit()
    assert slot.told == [("session-left", "a", ["b"])]


def test_what_was_rolled_back_first_is_not_left(slot, session):
    slot.begin("a")
    session.add(Guest("ann"))
    slot.begin("b")
    session.rollback()
    session.add(Guest("bob"))
    session.commit()
    assert slot.told == []


def test_what_is_written_between_two_tasks_is_nobodys(slot, session):
    slot.begin("a")
    session.add(Guest("ann"))
    slot.task = None
    session.commit()
    slot.begin("b")
    session.commit()
    assert slot.told == []


def test_what_a_task_that_still_runs_added_is_shared(slot, session):
    first = slot.begin("a")
    session.add(Guest("ann"))
    slot.begin("b", first)
    session.commit()
    assert slot.told == [("transaction-shared", "a", ["b"])]


def fails_to_flush(session):
    session.add_all([Guest("ann"), Guest("ann")])
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        session.flush()


def test_a_transaction_that_failed_in_another_task_is_left(slot, session):
    slot.begin("a")
    fails_to_flush(session)
    heir = slot.begin("b")
    with pytest.raises(sqlalchemy.exc.PendingRollbackError) as caught:
        session.query(Guest).count()
    slot.detector.failed(heir, "FAILURE", caught.value)
    assert slot.told == [("session-left", "a", ["b"])]


def test_a_task_that_goes_on_after_its_own_failure_has_itself_to_blame(slot, session):
    task = slot.begin("a")
    fails_to_flush(session)
    with pytest.raises(sqlalchemy.exc.PendingRollbackError) as caught:
        session.query(Guest).count()
    slot.detector.failed(task, "FAILURE", caught.value)
    assert slot.told == []


def test_a_failed_transaction_that_was_rolled_back_is_over(slot, session):
    slot.begin("a")
    fails_to_flush(session)
    session.rollback()
    heir = slot.begin("b")
    slot.detector.failed(heir, "FAILURE", sqlalchemy.exc.PendingRollbackError("of a session that is not known"))
    assert slot.told == []


def test_it_ends_without_a_trace(slot, session):
    slot.begin("a")
    session.add(Guest("ann"))
    slot.detector.remove()
    slot.begin("b")
    session.commit()
    assert slot.told == []
