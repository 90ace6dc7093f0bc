"""What is known of code before it runs: where a task stands, what it has written, what it must read next."""

import ast
import csv
import functools
import importlib
import itertools
import os
import pathlib
import queue
import subprocess
import sys
import textwrap
import threading
import tracemalloc
import types

import pytest

from pytest_celerypool.agent.detectors.code.flow import Flow, scope_of
from pytest_celerypool.agent.detectors.code.places import ABSENT, FRESH, UNKNOWN, Place, Sources, differ, same, show
from pytest_celerypool.agent.detectors.code.standing import AFTER, BEFORE, Reader, Standing, function_of, manager_of
from pytest_celerypool.agent.detectors.sharing.before_fork import MadeBeforeFork, _is_compared, made_at_import
from pytest_celerypool.agent.detectors.sharing.cached import Kept, acts, calls_in, is_plain, is_same_call, keys_of
from pytest_celerypool.agent.detectors.sharing.changes import EMPTY, fingerprint, items_of, key_of, text_of
from pytest_celerypool.agent.detectors.sharing.child_status import ChildStatus
from pytest_celerypool.agent.detectors.sharing.explained import SIGNS, ExplainedSharing, chain, lent_from
from pytest_celerypool.agent.detectors.sharing.file_locks import FileLocks
from pytest_celerypool.agent.detectors.sharing.names import OfChildren
from pytest_celerypool.agent.detectors.sharing.overlaps import Neighbour, Sharing, notes_only
from pytest_celerypool.agent.detectors.sharing.reentrant_locks import ReentrantLocks
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

NUMBERS = itertools.count()

HEAD = """
    import threading

    gate, waiting = threading.Event(), threading.Event()


    def wait():
        waiting.set()
        gate.wait(5)

"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module of the user's."""

    def make(source):
        name = f"users_module_{next(NUMBERS)}"  # Python keeps what it has imported
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(HEAD) + textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.import_module(name)

    return make


@pytest.fixture
def reader(tmp_path):
    return Reader(Frames(str(tmp_path)))


@pytest.fixture
def standing(reader):
    """Runs functions up to where they wait, and tells where they stand."""
    threads = []

    def run(module, function, *args):
        module.waiting.clear()
        thread = threading.Thread(target=function, args=args)
        thread.start()
        threads.append((thread, module))
        assert module.waiting.wait(5)
        frames = reader.user_frames(sys._current_frames()[thread.ident])
        return Standing(Run("id", types.SimpleNamespace(name="task"), ""), reader, frames)

    yield run
    for thread, module in threads:
        module.gate.set()
        thread.join()


def names(places):
    return {identity[2] for identity in places}


def test_a_task_awaits_what_it_wrote_and_reads_after_its_wait(module, standing):
    users = module("""
        headers = {}

        def call(token):
            headers["token"] = token
            wait()
            return headers["token"]
    """)
    stood = standing(users, users.call, "secret")
    assert names(stood.awaits) == {"token"}
    assert {step.value for step in stood.wrote.values()} == {"secret"}


@pytest.mark.parametrize("at", [0, 1], ids=["begins", "goes on"])
def test_a_task_awaits_what_a_generator_reads_in_which_it_stands(module, standing, at):
    users = module("""
        headers = {}

        def pages(at):
            for number in range(3):
                if number == at:
                    wait()
                yield headers["token"]

        def call(token, at):
            headers["token"] = token
            found = []
            for page in pages(at):
                found.append(page)
            return found
    """)
    stood = standing(users, users.call, "secret", at)
    assert stood.known
    assert names(stood.awaits) == {"token"}


def test_what_is_written_before_a_task_is_known_by_its_arguments(module, reader):
    users = module("""
        schemas = {"acme": "t_acme"}

        class Export:
            name = "export"

            def before_start(self, task_id, args, kwargs):
                self.schema = schemas[args[0]]
    """)
    values = [
        [step.value for step in reader.steps_of_hooks(users.Export(), BEFORE, given) if step.kind == "write"]
        for given in ((), ("id", ["acme"], {}))
    ]
    assert values == [[UNKNOWN], ["t_acme"]]


def test_what_a_dictionary_makes_where_it_misses_it_is_built(module, standing):
    users = module("""
        class Models(dict):
            def __missing__(self, name):
                wait()
                self[name] = model = object()
                return model

        models = Models()

        def call(name):
            return models[name]
    """)
    assert names(standing(users, users.call, "en").builds) == {"en"}


def test_what_a_dictionary_makes_where_it_misses_it_is_read_all_the_same(module, reader):
    """It is no mark that something is done: whoever asks wants the value."""
    users = module("""
        class Models(dict):
            def __missing__(self, name):
                self[name] = model = object()
                return model

        models = Models()

        def call():
            return models["en"]
    """)
    flow = reader.flow_of(users.call, scope_of(users.call, {}))
    reads = [step for step in flow.steps if step.kind == "read" and step.place.key == "en"]
    assert [step.how for step in reads] == ["in", ""]


def test_what_the_receivers_of_a_task_have_written_is_noted_behind_them():
    place = Place({"tenant": None}, "tenant")
    run = Run("id", types.SimpleNamespace(name="task", request_stack=types.SimpleNamespace(top=None)), "")
    detector = object.__new__(Sharing)
    detector.watch = types.SimpleNamespace(current=lambda: run)
    detector._begins = {"task": [types.SimpleNamespace(place=place)]}
    neighbour = Neighbour(run, detector._begun(detector._begins["task"]))
    detector._alive = {id(run): neighbour}
    place.owner["tenant"] = "acme"
    detector._received()
    assert list(neighbour.begun.values()) == ["acme"]


@pytest.mark.parametrize(("since", "told"), [((1.0, 1.0), 1), ((1.0, 2.0), 0)])
def test_a_task_that_has_run_on_and_stands_there_again_has_not_waited_all_the_time(since, told):
    """Its frame may have the number of the one before it, which is gone."""
    found = []
    detector = object.__new__(Sharing)
    detector._stale_by_another = lambda *_: found.append(1)
    run = types.SimpleNamespace(since=0.0, task=types.SimpleNamespace(request_stack=types.SimpleNamespace(top=None)))
    neighbour = Neighbour(run, {})
    for moment, value in zip(since, (100, 99), strict=True):
        run.since = moment
        write = types.SimpleNamespace(place=types.SimpleNamespace(value=lambda value=value: value))
        detector._since_last_time(
            neighbour,
            types.SimpleNamespace(
                run=run,
                key=(7, 80),
                still=lambda: True,
                wrote={},
                awaits={},
                builds={},
                drains={},
                updates={"x": (1, write)},
            ),
        )
    assert len(found) == told


@pytest.mark.parametrize("what", ["settings.rate", "rates['eur']"])
def test_what_an_attribute_or_an_item_is_worked_out_by_is_followed(module, standing, what):
    users = module(f"""
        known = {{}}

        class Rate:
            def __get__(self, instance, owner):
                known["rate"] = instance
                wait()
                return known["rate"]

        class Settings:
            rate = Rate()

        class Rates:
            def __getitem__(self, name):
                known["rate"] = name
                wait()
                return known["rate"]

        settings, rates = Settings(), Rates()

        def call():
            return {what}
    """)
    assert names(standing(users, users.call).awaits) == {"rate"}


def test_a_read_that_may_not_come_before_it_keeps_no_task_from_awaiting_a_later_one(module, standing):
    users = module("""
        found = {}

        def call(rows):
            found["bad"] = []
            for row in rows:
                wait()
                if row < 0:
                    found["bad"].append(row)
            return found["bad"]
    """)
    assert names(standing(users, users.call, [1]).awaits) == {"bad"}


@pytest.mark.parametrize(
    "rest",
    [
        "headers['token'] = token",
        "if token: headers['token'] = token\n            return headers['token']",
        "return None",
        "if token: return headers['token']",
        "return headers['other']",
    ],
)
def test_a_task_awaits_nothing_that_it_may_not_read(module, standing, rest):
    users = module(f"""
        headers = {{"other": 1}}

        def call(token):
            headers["token"] = token
            wait()
            {rest}
    """)
    assert not standing(users, users.call, "secret").awaits


def test_helpers_and_methods_are_followed(module, standing):
    users = module("""
        class Client:
            def login(self, name):
                self.name = name

            def whoami(self):
                return self.name

        client = Client()

        def call(name):
            client.login(name)
            wait()
            return client.whoami()
    """)
    assert names(standing(users, users.call, "ann").awaits) == {"name"}


def test_a_value_read_before_the_wait_and_written_after_it_is_an_update(module, standing):
    users = module("""
        stock = {"mug": 5}

        def reserve(item):
            left = stock[item]
            wait()
            stock[item] = left - 1
    """)
    stood = standing(users, users.reserve, "mug")
    assert names(stood.updates) == {"mug"}
    assert list(stood.copies.values())[-1] == 5


def test_a_value_read_anew_after_the_wait_is_no_update(module, standing):
    users = module("""
        stock = {"mug": 5}

        def reserve(item):
            wait()
            stock[item] = stock[item] - 1
    """)
    assert not standing(users, users.reserve, "mug").updates


def test_an_object_that_is_missing_is_built_after_the_check(module, standing):
    users = module("""
        client = None

        def connect():
            global client
            if client is None:
                wait()
                client = object()
            return client
    """)
    assert names(standing(users, users.connect).builds) == {"client"}


def test_an_object_that_is_checked_again_under_a_lock_is_not_built_yet(module, standing):
    users = module("""
        client, lock = None, threading.Lock()

        def connect():
            global client
            if client is None:
                wait()
                with lock:
                    if client is None:
                        client = object()
            return client
    """)
    assert not standing(users, users.connect).builds


def test_an_item_of_a_list_that_is_missing_is_added_after_the_check(module, standing):
    users = module("""
        sent = []

        def send(address):
            if address not in sent:
                wait()
                sent.append(address)
    """)
    (found,) = standing(users, users.send, "ann").builds.values()
    assert notes_only(found[1])


def test_another_item_of_the_list_is_none(module, standing):
    users = module("""
        sent = []

        def send(address):
            if address not in sent:
                wait()
                sent.append("somebody")
    """)
    assert not standing(users, users.send, "ann").builds


@pytest.mark.parametrize(("value", "noted"), [("True", True), ("load(key)", False)])
def test_only_what_is_no_value_to_keep_is_a_note(module, standing, value, noted):
    users = module(f"""
        done = {{}}

        def load(key):
            return [key]

        def work(key):
            if not done.get(key):
                wait()
                done[key] = {value}
    """)
    (found,) = standing(users, users.work, "a").builds.values()
    assert notes_only(found[1]) is noted


def test_a_class_that_keeps_what_it_makes_is_followed(module, reader):
    users = module("""
        class Index:
            kept = None

            def __new__(cls):
                if cls.kept is None:
                    cls.kept = super().__new__(cls)
                return cls.kept

        def find():
            return Index()
    """)
    flow = reader.flow_of(users.find, scope_of(users.find, {}))
    assert [step.place.key for step in flow.steps if step.kind == "write"] == ["kept"]


def test_what_celery_calls_around_a_task_belongs_to_it(module, reader):
    users = module("""
        class Timed:
            def before_start(self, task_id, args, kwargs):
                self.began = 1

            def after_return(self, *args):
                return self.began
    """)
    timed = users.Timed()
    assert [step.kind for step in reader.steps_of_hooks(timed, BEFORE)] == ["write"]
    assert "read" in [step.kind for step in reader.steps_of_hooks(timed, AFTER)]
    assert not reader.steps_of_hooks(object(), AFTER)


def cached_module(module):
    return module("""
        import functools

        class Client:
            pass

        @functools.lru_cache
        def client(region="eu"):
            wait()
            return Client()

        @functools.lru_cache(maxsize=None)
        def rates(day):
            return [day]
    """)


def test_calls_of_a_cached_function_are_the_same_if_their_arguments_are(module, standing):
    users = cached_module(module)
    ((first, one),) = calls_in(standing(users, users.client).frames)
    ((second, other),) = calls_in(standing(users, users.client, "eu").frames)
    ((third, far),) = calls_in(standing(users, users.client, "us").frames)
    assert is_same_call((first, one), (second, other))
    assert not is_same_call((first, one), (third, far))


def test_a_cached_function_is_known_by_another_name_and_in_a_class(module, standing):
    users = module("""
        import functools

        def _load(name):
            wait()

        load = functools.lru_cache(_load)

        class Shelf:
            @functools.cache
            def get(self, name):
                wait()

        shelf = Shelf()
    """)
    ((call, given),) = calls_in(standing(users, users.load, "a").frames)
    assert (call.value, given) == (users.load, ["a"])
    ((call, given),) = calls_in(standing(users, users.shelf.get, "a").frames)
    assert (call.value, given) == (vars(users.Shelf)["get"], [users.shelf, "a"])


def test_a_cached_property_is_the_same_of_one_object_alone(module, standing):
    users = module("""
        class cached_property:
            def __init__(self, func):
                self.func, self.name = func, func.__name__

            def __get__(self, instance, owner):
                value = instance.__dict__[self.name] = self.func(instance)
                return value

        class Client:
            @cached_property
            def session(self):
                wait()
                return object()

            @property
            def plain(self):
                wait()

        def session(client):
            return client.session

        def plain(client):
            return client.plain

        one, other = Client(), Client()
    """)
    ((first, given),) = calls_in(standing(users, users.session, users.one).frames)
    ((again, same),) = calls_in(standing(users, users.session, users.one).frames)
    ((second, far),) = calls_in(standing(users, users.session, users.other).frames)
    assert first.place.value() is ABSENT
    assert is_same_call((first, given), (again, same))
    assert not is_same_call((first, given), (second, far))
    assert not list(calls_in(standing(users, users.plain, users.one).frames))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("post(order)", False),
        ("client.send_message(order)", True),
        ("open(order, 'a').close()", True),
        ("open(order, mode='ab').close()", True),
        ("open(order, 'w').close()", False),
        ("open(order).close()", False),
        ("task.delay(order)", True),
    ],
)
def test_a_cached_function_that_tells_others_something_is_to_be_called_once(module, standing, body, expected):
    users = module(f"""
        import functools

        @functools.cache
        def deliver(order):
            wait()
            {body}

        def post(order):
            pass
    """)
    users.client = users.task = users
    users.delay = users.send_message = users.post
    ((call, _),) = calls_in(standing(users, users.deliver, "/dev/null").frames)
    assert acts(call, Sources()) is expected


def test_keys_of_a_cache_are_plain_or_objects(module):
    users = cached_module(module)
    users.gate.set()
    users.client("eu")
    assert keys_of(users.client) == ["eu"]
    users.rates(object())
    assert not all(map(is_plain, keys_of(users.rates)))
    assert is_plain(("eu", 1, ("a", None)))


def writes(flow):
    return writes_of(flow.steps)


def writes_of(steps):
    return [(step.how, step.place.owner, step.place.key) for step in steps if step.kind == "write"]


@pytest.mark.parametrize("copied", ["dict(FORM)", "FORM.copy()", "copy.copy(FORM)", "{**FORM, 'amount': 1}"])
def test_a_shallow_copy_has_its_items_in_common_with_the_original(module, reader, copied):
    users = module(f"""
        import copy

        FORM = {{"customer": {{"name": None}}}}

        def fill(name):
            form = {copied}
            form["amount"] = 2
            form["customer"]["name"] = name
    """)
    places = writes(reader.flow_of(users.fill, scope_of(users.fill, {})))
    assert ("=", users.FORM["customer"], "name") in places
    assert not any(owner is users.FORM for _, owner, _ in places)


def test_a_deep_copy_has_nothing_in_common_with_the_original(module, reader):
    users = module("""
        import copy

        FORM = {"customer": {"name": None}}

        def fill(name):
            form = copy.deepcopy(FORM)
            form["customer"]["name"] = name
    """)
    assert writes(reader.flow_of(users.fill, scope_of(users.fill, {}))) == []


def test_managers_and_subclasses_of_the_users_are_followed(module, reader):
    users = module("""
        class Tenant:
            def __enter__(self):
                self.name = "a"

            def __exit__(self, *_):
                self.name = None

        class Exporter:
            registry = {}

            def __init_subclass__(cls, suffix):
                Exporter.registry[suffix] = cls

        tenant = Tenant()
        done = []

        def work():
            with tenant:
                done.append(1)
            class Csv(Exporter, suffix="csv"):
                pass
    """)
    steps = writes(reader.flow_of(users.work, scope_of(users.work, {})))
    assert [how for how, owner, _ in steps if owner in (users.tenant, users.done)] == ["=", "append", "="]
    assert ("=", users.Exporter.registry, "csv") in steps


def test_the_manager_that_a_helper_is_decorated_with_is_entered_before_it_and_left_after_it(module, reader):
    users = module("""
        import contextlib

        class Watch(contextlib.ContextDecorator):
            def __enter__(self):
                self.started = 1

            def __exit__(self, *_):
                self.taken = self.started

        watch, done = Watch(), []

        @watch
        def helper(item):
            done.append(item)

        def work():
            helper(1)
    """)
    steps = reader.flow_of(users.work, scope_of(users.work, {})).steps
    known = [(step.kind, step.place.key) for step in steps if step.place is not None]
    around = [each for each in known if each[1] in ("started", "taken") or each[0] == "write"]
    assert around[0][1] == "started"
    assert around[-2:] == [("read", "started"), ("write", "taken")]
    assert ("=", users.watch, "taken") in writes(reader.flow_of(users.work, scope_of(users.work, {})))


def test_what_is_read_into_a_buffer_is_written_to_it(module, reader):
    users = module("""
        BUFFER = bytearray(8)

        def load(file):
            size = file.readinto(BUFFER)
            return bytes(BUFFER[:size])
    """)
    flow = reader.flow_of(users.load, scope_of(users.load, {}))
    assert [how for how, owner, key in writes(flow) if owner is users.BUFFER] == ["into"]
    assert any(step.value is users.BUFFER for step in flow.steps if step.kind == "use")


def test_what_a_cached_function_keeps_is_read_without_making_it(module):
    users = cached_module(module)
    users.gate.set()
    assert Kept(users.client).value() is ABSENT
    assert users.client.cache_info().misses == 0
    made = users.client()
    assert Kept(users.client).value() is made
    assert Kept(users.rates).value() is ABSENT
    users.rates("mon")
    assert Kept(users.rates).value() == ["mon"]
    assert users.rates.cache_info().misses == 1


def test_objects_of_the_function_alone_are_no_places_of_others(module, reader):
    users = module("""
        def load(source):
            rows = {}
            rows["a"] = source
            return rows
    """)
    flow = reader.flow_of(users.load, scope_of(users.load, {"source": 1}))
    assert not [step for step in flow.steps if step.kind == "write"]
    assert not flow.unknown_writes


def test_recursion_and_unknown_source_end(module, reader):
    users = module("""
        def down(number):
            return down(number - 1) if number else 0
    """)
    assert reader.flow_of(users.down, scope_of(users.down, {})) is not None
    assert not Flow(Sources(), lambda _: True).run(compile("1", "<none>", "eval"), scope_of(users.down, {}), live=False)


def test_nothing_of_the_users_is_run_to_find_a_value():
    class Angry:
        def __getattr__(self, name):
            raise AssertionError

        def __eq__(self, other):
            raise AssertionError

        __hash__ = None

    angry = Angry()
    assert differ(angry, Angry())
    assert not same(angry, 1)
    assert Place({"a": angry}, "a").value() is angry


def test_what_is_not_known_is_neither_the_same_nor_different():
    for value in (UNKNOWN, FRESH):
        assert not differ(value, 1)
        assert not same(value, value)
    assert not differ((1, "a"), (1, "a"))
    assert differ("a", "b")


def test_children_compare_states_as_text():
    event = threading.Event()
    assert fingerprint(event) == "not set"
    event.set()
    assert fingerprint(event) == "set"
    assert fingerprint(itertools.count(3)) == "count(3)"
    assert fingerprint(iter([1, 2])) == "2 left"
    lines = csv.reader(["a", "b"])
    next(lines)
    assert fingerprint(lines) == "line 1"
    assert fingerprint({}) is None
    assert text_of(object()) == "object"
    assert items_of({"a": 1, (1,): 2}) == (2, {"a"})


def test_a_cache_is_told_by_what_was_missing_in_it_and_not_by_what_was_found():
    cached = functools.lru_cache(len)
    cached("a")
    before = fingerprint(cached)
    cached("a")
    assert fingerprint(cached) == before
    cached("b")
    assert fingerprint(cached) != before
    cached.cache_clear()
    assert fingerprint(cached) == EMPTY


def test_names_made_of_the_process_id_at_import_are_found(tmp_path):
    path = tmp_path / "made.py"
    path.write_text(
        "import os\nOWNER = f'x:{os.getpid()}'\nKEY = OWNER + '!'\nPLAIN = 3\ndef f():\n    x = os.getpid()\n"
    )
    assert made_at_import(str(path)) == {"OWNER": (2, "getpid"), "KEY": (3, "getpid")}


def test_objects_that_keep_the_process_id_are_found_at_import(tmp_path):
    path = tmp_path / "ids.py"
    path.write_text(
        textwrap.dedent("""
        import os
        class Owner:
            def __init__(self):
                self.name = f"owner-{os.getpid()}"
        class Settings:
            worker = os.getpid()
        OWNER = Owner()
        PLACE = Place()
        PLACE.pid = os.getpid()
        OTHER = Place()
        """)
    )
    assert made_at_import(str(path)) == {
        "Settings": (7, "getpid"),
        "Settings.worker": (7, "getpid"),
        "OWNER": (5, "getpid"),
        "PLACE": (10, "getpid"),
    }


@pytest.mark.parametrize(("made_anew", "kinds"), [(False, ["made-before-fork"]), (True, [])])
def test_the_first_part_of_an_id_that_a_tasks_class_has_is_the_same_in_every_child(tmp_path, module, made_anew, kinds):
    users = module("""
        import itertools
        import uuid

        class Bank:
            origin = uuid.uuid4().hex
            serial = itertools.count()

            @property
            def reference(self):
                return f"{self.origin}-{next(self.serial)}"

            def run(self):
                return self.reference
    """)
    told = []
    detector = MadeBeforeFork(
        types.SimpleNamespace(
            frames=Frames(str(tmp_path)), report=lambda kind, *_, **__: told.append(kind), forget=lambda _: None
        )
    )
    detector.begin()
    detector._parent = -1  # as in a child
    if made_anew:
        users.Bank.origin = "another"
    task = users.Bank()
    task.name = "bank.pay"
    detector.started(Run("id", task, ""))
    assert told == kinds


@pytest.mark.parametrize(
    ("line", "compared"),
    [
        ("if client.process != os.getpid(): remake()", True),
        ("if os.getpid() == self.process: remake()", True),
        ("if other != os.getpid(): remake()", False),
        ("if client.process != 7: remake()", False),
    ],
)
def test_what_is_compared_with_the_process_id_knows_of_forks(tmp_path, line, compared):
    path = tmp_path / "guard.py"
    path.write_text(f"def f():\n    {line}\n")
    client = types.SimpleNamespace(process=1)
    assert _is_compared(str(path), "client", client) is compared


def test_causes_of_an_exception_are_looked_at_once():
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(chain(first)) == [first, second]


def test_each_sign_says_what_it_means():
    assert all(sign.means and sign.remedy and sign.exceptions for sign in SIGNS)


@pytest.mark.parametrize("value", ["x" * (8 << 20), b"x" * (8 << 20)])
@pytest.mark.parametrize("text", [key_of, text_of, show])
def test_no_long_text_is_made_of_what_a_task_keeps(text, value):
    """A task may keep many megabytes: the agent must neither copy nor write them."""
    tracemalloc.start()
    try:
        assert len(text(value)) < 300
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_long_items_are_told_apart():
    """Also where only their ends differ."""
    assert key_of("x" * 1000 + "a") != key_of("x" * 1000 + "b")


EMPTIED = [
    ("rows = []", "rows.clear(); rows.append(x)", "sum(rows)"),
    ("rows = []", "rows[:] = [x]", "sum(rows)"),
    ("rows = []", "del rows[:]; rows.extend([x])", "sorted(rows)"),
    ("seen = set()", "seen.clear(); seen.add(x)", "list(seen)"),
    ("import io; out = io.StringIO()", "out.seek(0); out.truncate(); out.write(str(x))", "out.getvalue()"),
]


@pytest.mark.parametrize(("before", "fill", "read"), EMPTIED)
def test_a_container_that_a_task_empties_for_its_own_items_is_written_by_it(module, standing, before, fill, read):
    users = module(f"{before}\ndef f(x):\n    {fill}\n    wait()\n    return {read}\n")
    where = standing(users, users.f, 1)
    assert [write.how for write in where.wrote.values()] == ["clear"]
    assert list(where.awaits) == list(where.wrote)


FILLED_IN_A_LOOP = """
    rows = []
    def f(xs):
        rows.clear()
        for x in xs:
            wait()
            rows.append(x)
        return sum(rows)
"""


def test_a_container_that_is_filled_in_a_loop_is_still_the_tasks_own(module, standing):
    users = module(FILLED_IN_A_LOOP)
    assert len(standing(users, users.f, [1]).awaits) == 1


LEFT_ALONE = {
    "each task fills it with the same": """
        def load(): return [1]
        def f(x):
            rows.clear()
            rows.extend(load())
            wait()
            return sum(rows)
    """,
    "it is emptied again before it is read": """
        def f(x):
            rows.clear()
            rows.append(x)
            wait()
            rows.clear()
            return sum(rows)
    """,
    "nobody reads it": """
        def f(x):
            rows.clear()
            rows.append(x)
            wait()
            return x
    """,
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_a_container_is_not_the_tasks_own_where(module, standing, why):
    users = module("rows = []\n" + textwrap.dedent(LEFT_ALONE[why]))
    assert not standing(users, users.f, 1).awaits


def test_a_task_that_a_library_has_decorated_is_followed_into_what_it_wraps(module, reader):
    users = module("""
        import contextlib
        import functools

        class Scratch(contextlib.ContextDecorator):
            def __enter__(self):
                self.folder = "a"

            def __exit__(self, *_):
                self.folder = None

        scratch = Scratch()

        @scratch
        def convert():
            return scratch.folder

        plain = convert.__wrapped__
    """)
    task = types.SimpleNamespace(run=users.convert)
    assert function_of(task, reader.frames) is users.plain
    assert manager_of(task) is users.scratch
    assert manager_of(types.SimpleNamespace(run=users.plain)) is None
    before, after = (writes_of(reader.steps_of_hooks(task, hooks)) for hooks in (BEFORE, AFTER))
    assert before == after == [("=", users.scratch, "folder")]
    assert function_of(types.SimpleNamespace(run=len), reader.frames) is None


@pytest.mark.parametrize(("left", "kinds"), [(0, ["useless-lock"]), (1, ["useless-lock"]), (2, [])])
def test_who_takes_a_lock_twice_has_it_until_it_is_left_twice(tmp_path, left, kinds):
    told, runs = [], [Run(name, types.SimpleNamespace(name=name), "") for name in ("one", "two")]
    now = types.SimpleNamespace(run=runs[0])
    watch = types.SimpleNamespace(
        frames=Frames(os.path.dirname(__file__)),
        pool=types.SimpleNamespace(name="gevent"),
        current=lambda: now.run,
        report=lambda kind, *_, **__: told.append(kind),
    )
    detector = ReentrantLocks(watch)
    lock = types.SimpleNamespace(_semlock=types.SimpleNamespace(kind=0))
    for _ in range(2):
        detector._entered(None, lock)
    for _ in range(left):
        detector._left(lock)
    now.run = runs[1]
    detector._entered(None, lock)
    assert told == kinds


@pytest.mark.parametrize(
    ("mine", "theirs", "got", "told"),
    [
        ([11], [12], 12, 1),  # another task's
        ([11], [], 13, 1),  # nobody knows whose
        ([11], [12], 11, 0),
        ([], [], 13, 0),  # it may have started one unseen
        ([11], [12], 0, 0),  # none has ended
    ],
)
def test_the_status_of_a_child_is_compared_with_who_started_it(mine, theirs, got, told):
    reports, runs = [], [Run(name, types.SimpleNamespace(name=name), "") for name in ("one", "two")]
    now = types.SimpleNamespace(run=None)
    detector = ChildStatus(
        types.SimpleNamespace(
            frames=Frames(os.path.dirname(__file__)),
            pool=types.SimpleNamespace(name="threads"),
            current=lambda: now.run,
            report=lambda kind, *_, **__: reports.append(kind),
        )
    )
    for now.run, pids in zip(runs, (mine, theirs), strict=True):
        for pid in pids:
            detector._start(pid)
    now.run = runs[0]
    detector._took(got)
    assert reports == ["foreign-child"] * told


@pytest.mark.parametrize(
    ("pid", "number", "asked", "runs_on", "told"),
    [
        (12, 9, True, True, 1),
        (12, 9, False, True, 0),  # it was told the number by somebody
        (12, 0, True, True, 0),  # it asks whether the process is there
        (12, 9, True, False, 0),  # nobody waits for it any more
        (11, 9, True, True, 0),  # its own
    ],
)
def test_a_signal_to_the_child_of_another_task_is_told_of_if_the_children_were_looked_up(
    pid, number, asked, runs_on, told
):
    reports, runs = [], [Run(name, types.SimpleNamespace(name=name), "") for name in ("one", "two")]
    now = types.SimpleNamespace(run=None)
    detector = ChildStatus(
        types.SimpleNamespace(
            frames=Frames(os.path.dirname(__file__)),
            pool=types.SimpleNamespace(name="threads"),
            current=lambda: now.run,
            running=lambda: runs if runs_on else runs[:1],
            report=lambda kind, *_, **__: reports.append(kind),
        )
    )
    for now.run, child in zip(runs, (11, 12), strict=True):
        detector._start(child)
    now.run = runs[0]
    if asked:
        detector._asked()
    detector._killed(pid, number)
    assert reports == ["foreign-child"] * told


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="the system has none")
@pytest.mark.parametrize(
    ("kind", "options", "told"), [("P_ALL", 0, 1), ("P_PID", 0, 0), ("P_ALL", getattr(os, "WNOWAIT", 0), 0)]
)
def test_who_waits_for_any_child_by_waitid_takes_its_status_too(monkeypatch, kind, options, told):
    taken = []
    detector = object.__new__(ChildStatus)
    monkeypatch.setattr(ChildStatus, "_took", lambda _detector, pid: taken.append(pid))
    detector._waited_id(types.SimpleNamespace(si_pid=7), getattr(os, kind), 0, os.WEXITED | options)
    detector._waited_id(None, os.P_ALL, 0, os.WEXITED | os.WNOHANG)
    assert taken == [7] * told


@pytest.fixture
def file_locks():
    """The detector of locks of files, the kinds that it has reported, and what names the current task."""
    told, now = [], types.SimpleNamespace(run=None)
    detector = FileLocks(
        types.SimpleNamespace(
            frames=Frames(os.path.dirname(__file__)),
            pool=types.SimpleNamespace(name="threads"),
            current=lambda: now.run,
            report=lambda kind, *_, **__: told.append(kind),
        )
    )
    return detector, told, now


@pytest.mark.parametrize(
    ("command", "length", "closed", "told"),
    [
        ("F_LOCK", 0, False, ["useless-lock"]),
        ("F_TLOCK", 0, False, ["useless-lock"]),
        ("F_ULOCK", 0, False, []),
        ("F_LOCK", 0, True, []),
    ],
)
def test_a_lock_of_os_lockf_is_the_processs(tmp_path, file_locks, command, length, closed, told):
    """Its number tells nothing of a file that is closed: the next that is opened has it again."""
    detector, found, now = file_locks
    path = tmp_path / "journal.lock"
    path.touch()

    def takes(name, operation):
        now.run = Run(name, types.SimpleNamespace(name=name), "")
        handle = path.open("a")
        detector._os_lockf(None, handle.fileno(), getattr(os, operation), length)
        return handle

    first = takes("one", command)
    if closed:
        first.close()
    second = takes("two", "F_LOCK")
    assert found == told
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("back", "line", "name"),
    [
        ("finally:\n        pool.put(one)", 3, "pool"),
        ("finally:\n        pool.put(one)", 5, None),  # another line
        ("finally:\n        other.put(one)", 3, None),
        ("except ValueError:\n        pool.put(one)", 3, None),  # a queue of work, to which some of it goes back
    ],
)
def test_a_queue_is_a_pool_if_what_is_taken_out_is_put_back_at_the_end(back, line, name):
    source = f"def task():\n\n    one = pool.get(timeout=1)\n    try:\n        use(one)\n    {back}\n"
    assert lent_from(ast.parse(source), line) == name


@pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="the system has none")
@pytest.mark.parametrize("start", ["posix_spawn", "fork", "Popen"])
def test_children_are_seen_however_a_task_starts_them(start):
    run = Run("one", types.SimpleNamespace(name="one"), "")
    detector = ChildStatus(
        types.SimpleNamespace(
            frames=Frames(os.path.dirname(__file__)),
            current=lambda: run,
            guarded=lambda _detector, callback: callback,
        )
    )
    detector.install()
    try:
        if start == "posix_spawn":
            pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
        elif start == "fork":
            pid = os.fork() or os._exit(0)
        else:
            program = subprocess.Popen([sys.executable, "-c", ""])
            pid = program.pid
            program.wait(10)
        assert list(detector._started) == [pid]
        if start != "Popen":
            os.waitpid(pid, 0)
    finally:
        detector.remove()


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_a_path_that_is_named_after_the_thread_is_known_whatever_its_type(tmp_path, monkeypatch, kind):
    told = []
    watch = types.SimpleNamespace(
        folder=str(tmp_path),
        frames=Frames(os.path.dirname(__file__)),
        report=lambda name, *_, **__: told.append(name),
    )
    run = Run("one", types.SimpleNamespace(name="one"), "")
    path = kind(tmp_path / f"export-{threading.current_thread().name}.csv")
    OfChildren(watch).opened(run, path, "w")
    assert told == []
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)  # another child, with the same thread's name
    OfChildren(watch).opened(run, path, "w")
    assert told == ["shared-name"]


@pytest.mark.parametrize(("beside", "kinds"), [(True, ["connections-exhausted"]), (False, [])])
def test_a_task_that_gets_nothing_out_of_a_lent_queue_is_explained_by_those_that_have_it(tmp_path, beside, kinds):
    source = (
        "import queue\n\npool = queue.Queue()\n\n\ndef task():\n    one = pool.get_nowait()\n"
        "    try:\n        return one\n    finally:\n        pool.put(one)\n"
    )
    (tmp_path / "users_pool.py").write_text(source)
    module = {}
    exec(compile(source, str(tmp_path / "users_pool.py"), "exec"), module)
    run, other = (Run(name, types.SimpleNamespace(name=name), "") for name in ("one", "two"))
    told = []
    detector = ExplainedSharing(
        types.SimpleNamespace(
            frames=Frames(str(tmp_path)),
            pool=types.SimpleNamespace(name="threads"),
            overlapped=lambda _run: True,
            running=lambda: [run, other] if beside else [run],
            report=lambda kind, *_, **__: told.append(kind),
        )
    )
    with pytest.raises(queue.Empty) as raised:
        module["task"]()
    detector.failed(run, "FAILURE", raised.value)
    assert told == kinds


@pytest.fixture
def explained(tmp_path, monkeypatch):
    """Lets the task of a module fail beside another task, and returns the kinds that its failure is told as."""

    def explain(source):
        monkeypatch.syspath_prepend(str(tmp_path))
        name = f"users_module_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        module = importlib.import_module(name)
        runs = [Run(each, types.SimpleNamespace(name=each), "") for each in ("one", "two")]
        slots, told = {threading.get_ident(): runs[0]}, []
        detector = ExplainedSharing(
            types.SimpleNamespace(
                frames=Frames(str(tmp_path)),
                pool=types.SimpleNamespace(name="threads"),
                overlapped=lambda _run: True,
                running=lambda: runs,
                recorder=types.SimpleNamespace(running=slots),
                report=lambda kind, *about, **_: told.append((kind, about[2])),
            )
        )
        end = threading.Event()
        thread = threading.Thread(target=getattr(module, "beside", threading.Event.wait), args=(end,))
        thread.start()
        slots[thread.ident] = runs[1]
        try:
            if hasattr(module, "begun"):
                assert module.begun.wait(5)
            with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever the user's code raises
                module.task()
            detector.failed(runs[0], "FAILURE", raised.value)
        finally:
            end.set()
            thread.join(5)
        return told

    return explain


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("readuntil() called while another coroutine is already waiting for incoming data", ["shared-stream"]),
        ("something else", []),
    ],
)
def test_two_coroutines_that_await_an_answer_on_one_connection_are_told_of(explained, text, kinds):
    assert [kind for kind, _ in explained(f"def task():\n    raise RuntimeError({text!r})\n")] == kinds


def test_what_is_missing_in_a_module_that_another_task_runs_anew_is_not_there_yet(explained):
    told = explained("""
        import threading, types

        begun, rates = threading.Event(), types.ModuleType("rates")

        def beside(end):
            rates.begun, rates.end = begun, end
            exec(compile("of = {}; begun.set(); end.wait(5)", __file__, "exec"), vars(rates))

        def task():
            return rates.of["se"]
    """)
    assert [kind for kind, _ in told] == ["half-imported"]


LOADS = """
    import sys, threading, types

    begun = threading.Event()

    def beside(end):
        module = sys.modules["users_plugin"] = types.ModuleType("users_plugin")
        module.begun, module.end = begun, end
        exec(compile("begun.set(); end.wait(5)", __file__, "exec"), vars(module))

    def task():
        return sys.modules[%r].price
"""


@pytest.mark.parametrize(("name", "kinds"), [("users_plugin", ["half-imported"]), ("threading", [])])
def test_a_module_whose_code_another_task_runs_is_half_imported(explained, monkeypatch, name, kinds):
    monkeypatch.setitem(sys.modules, "users_plugin", None)
    told = explained(LOADS % name)
    assert [kind for kind, _ in told] == kinds
    assert all(any("is here: " in line for line in evidence) for _, evidence in told)


def test_a_line_that_wants_the_names_of_another_pool_is_bound_to_that(explained):
    ((kind, evidence),) = explained("""
        import threading

        def task():
            return int(threading.current_thread().name.rpartition("Worker-")[2])
    """)
    assert kind == "pool-bound"
    assert "in task: return int(" in evidence[0]


RELEASES = """
import threading

lock = threading.{cls}()
begun = threading.Event()

def beside(end):
    {taken}
    begun.set()
    end.wait(5)

def task():
    lock.release()
"""


@pytest.mark.parametrize(
    ("cls", "taken", "kinds"),
    [
        ("RLock", "lock.acquire()", ["bound-object"]),
        ("_PyRLock", "lock.acquire()", ["bound-object"]),  # as eventlet has it
        ("RLock", "pass", []),
        ("Lock", "pass", []),
    ],
)
def test_an_rlock_that_another_thread_has_taken_is_not_this_tasks_to_release(explained, cls, taken, kinds):
    told = explained(RELEASES.format(cls=cls, taken=taken))
    assert [kind for kind, _ in told] == kinds


def test_the_text_of_gevents_rlock_tells_nothing_its_count_does(explained):
    source = RELEASES.format(cls="RLock", taken="lock.acquire()").replace("threading.RLock", "gevent.lock.RLock")
    told = explained(f"import gevent.lock\n{source}")
    assert [kind for kind, _ in told] == ["bound-object"]
