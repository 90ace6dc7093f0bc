import pytest

from pytest_celerypool import surface
from pytest_celerypool.errors import SettingError
from pytest_celerypool.pools import POOLS, parse_pools, pool
from pytest_celerypool.settings import Concurrency, Ratchet, Settings, from_config, hide_password

NATIVE_TOML = pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="pytest's own TOML tables came with 9.0")


@pytest.fixture
def configure(pytester, monkeypatch):
    """Return a function that parses a command line with our options alone and reads the settings."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(only_options="from pytest_celerypool.surface import add_options as pytest_addoption")
    pytester.syspathinsert()

    def configure(*args):
        return from_config(pytester.parseconfig("-p", "only_options", *args))

    return configure


def names(settings):
    return [str(each) for each in settings.pools]


def refused(configure, *args):
    with pytest.raises(SettingError) as error:
        configure(*args)
    return str(error.value)


def test_defaults(configure):
    """Without option and ini nothing is chosen, and every source says so."""
    settings = configure()
    assert settings == Settings(sources=settings.sources)
    assert set(settings.sources.values()) == {"default"}
    assert settings.pools is None
    assert settings.broker == settings.backend == "embedded"
    assert settings.timeout == 10
    assert str(settings.concurrency) == "default"
    assert not settings.chosen()


def test_options(configure):
    """Each option sets its field and is named as its source."""
    settings = configure(
        "--celery-pools=gevent,solo",
        "--celery-app=proj.celery:make_app()",
        "--celery-launch=inprocess",
        "--celery-concurrency=3,gevent=50",
        "--celery-broker=redis://localhost:6379/3",
        "--celery-backend=db+sqlite:///results.db",
        "--celery-timeout=2.5",
        "--celery-findings=warn",
        "--celery-limits=hub-busy=1",
        "--celery-stress=4",
        "--celery-budget-confirm=2",
        "--celery-baseline=base.json",
        "--celery-budget-ratchet=p95:+20%, cpu:max:+7.5%",
        "--celery-advise",
    )
    assert names(settings) == ["gevent", "solo"]
    assert settings.app == "proj.celery:make_app()"
    assert settings.launch == "inprocess"
    assert settings.concurrency == Concurrency(3, {pool("gevent"): 50}, "--celery-concurrency")
    assert settings.broker == "redis://localhost:6379/3"
    assert settings.backend == "db+sqlite:///results.db"
    assert settings.timeout == 2.5
    assert settings.stress == 4
    assert settings.budget_confirm == 2
    assert settings.baseline.name == "base.json"
    assert settings.budget_ratchet == (Ratchet("runtime", 95, 0.2), Ratchet("cpu", 100, 0.075))
    assert settings.advise
    assert settings.wants_evidence
    assert settings.sources == {name: surface.option_of(name) for name in settings.sources}
    assert settings.chosen()


def test_last_option_wins(configure):
    """Of an option given twice the last counts."""
    assert names(configure("--celery-pools=all", "--celery-pools=solo")) == ["solo"]


def test_option_beats_ini(configure, pytester):
    """The command line beats the file, for that option alone."""
    pytester.makeini("[pytest]\ncelery_pools = all\ncelery_timeout = 3")
    settings = configure("--celery-pools=solo")
    assert names(settings) == ["solo"]
    assert settings.sources["pools"] == "--celery-pools"
    assert settings.timeout == 3
    assert settings.sources["timeout"] == "celery_timeout in tox.ini"


INI = """
celery_pools = prefork, gevent
celery_app = proj:app
celery_concurrency = gevent=50,prefork=2
celery_launch = inprocess
celery_broker = app
celery_backend = rpc://
celery_timeout = 4.5
celery_findings = warn,pools-disagree=fail
celery_limits = hub-busy=200ms
celery_stress = 4
celery_budget_confirm = 2
celery_baseline = base.json
celery_budget_ratchet = p95:+20%,cpu:max:+7.5%
celery_advise = true
"""

INI_LINES = """
celery_pools =
    prefork
    gevent
celery_app = proj:app
celery_concurrency =
    gevent=50
    prefork=2
celery_launch = inprocess
celery_broker = app
celery_backend = rpc://
celery_timeout = 4.5
celery_findings =
    warn
    pools-disagree=fail
celery_limits = hub-busy=200ms
celery_stress = 4
celery_budget_confirm = 2
celery_baseline = base.json
celery_budget_ratchet =
    p95:+20%
    cpu:max:+7.5%
celery_advise = true
"""

TOML_STRINGS = """
celery_pools = "prefork,gevent"
celery_app = "proj:app"
celery_concurrency = "gevent=50,prefork=2"
celery_launch = "inprocess"
celery_broker = "app"
celery_backend = "rpc://"
celery_timeout = "4.5"
celery_findings = "warn,pools-disagree=fail"
celery_limits = "hub-busy=200ms"
celery_stress = "4"
celery_budget_confirm = "2"
celery_baseline = "base.json"
celery_budget_ratchet = "p95:+20%,cpu:max:+7.5%"
celery_advise = "true"
"""

TOML_TYPES = """
celery_pools = ["prefork", "gevent"]
celery_app = "proj:app"
celery_concurrency = ["gevent=50", "prefork=2"]
celery_launch = "inprocess"
celery_broker = "app"
celery_backend = "rpc://"
celery_timeout = 4.5
celery_findings = ["warn", "pools-disagree=fail"]
celery_limits = ["hub-busy=200ms"]
celery_stress = 4
celery_budget_confirm = 2
celery_baseline = "base.json"
celery_budget_ratchet = ["p95:+20%", "cpu:max:+7.5%"]
celery_advise = true
"""


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pytest.ini", f"[pytest]{INI}"),
        ("pytest.ini", f"[pytest]{INI_LINES}"),
        ("tox.ini", f"[pytest]{INI}"),
        ("setup.cfg", f"[tool:pytest]{INI_LINES}"),
        ("pyproject.toml", f"[tool.pytest.ini_options]{TOML_STRINGS}"),
        ("pyproject.toml", f"[tool.pytest.ini_options]{TOML_TYPES}"),
        pytest.param("pyproject.toml", f"[tool.pytest]{TOML_STRINGS}", marks=NATIVE_TOML),
        pytest.param("pyproject.toml", f"[tool.pytest]{TOML_TYPES}", marks=NATIVE_TOML),
        pytest.param("pytest.toml", f"[pytest]{TOML_STRINGS}", marks=NATIVE_TOML),
        pytest.param("pytest.toml", f"[pytest]{TOML_TYPES}", marks=NATIVE_TOML),
        pytest.param(".pytest.toml", f"[pytest]{TOML_TYPES}", marks=NATIVE_TOML),
    ],
)
def test_file_forms(configure, pytester, file, text):
    """Every form of pytest's files gives the same settings, and is named as their source."""
    pytester.path.joinpath(file).write_text(text)
    settings = configure("--strict-config")
    assert names(settings) == ["prefork", "gevent"]
    assert settings.app == "proj:app"
    assert settings.concurrency.named == {pool("gevent"): 50, pool("prefork"): 2}
    assert settings.broker == "app"
    assert settings.backend == "rpc://"
    assert settings.timeout == 4.5
    assert settings.stress == 4
    assert settings.baseline == pytester.path / "base.json"
    assert ",".join(map(str, settings.budget_ratchet)) == "runtime:p95:+20%,cpu:max:+7.5%"
    assert settings.advise
    assert settings.sources == {name: f"celery_{name} in {file}" for name in settings.sources}


@pytest.mark.parametrize("table", ["tool.pytest.ini_options", pytest.param("tool.pytest", marks=NATIVE_TOML)])
@pytest.mark.parametrize("value", ["4", '"4"', "[4]", '["4"]', '["4", "gevent=200"]'])
def test_toml_concurrency(configure, pytester, table, value):
    """A plain number may be a TOML number, alone or in a list."""
    pytester.makepyprojecttoml(f"[{table}]\ncelery_concurrency = {value}\ncelery_timeout = 10")
    settings = configure()
    assert settings.concurrency.others == 4
    assert settings.timeout == 10


@NATIVE_TOML
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("celery_pools = 3", "'3' is not a pool. Valid pools: "),
        ("celery_pools = true", "True is neither a string nor a number. Valid: a string or a list."),
        (
            "celery_pools = [['solo']]",
            "['solo'] is neither a string nor a number. Valid: a string or a list.",
        ),
        ("celery_pools = []", "no pool is given. Valid pools: "),
        ("celery_concurrency = {gevent = 2}", "{'gevent': 2} is neither a string nor a number. Valid: "),
        ("celery_timeout = true", "True is not a single value. Valid: a string or a number."),
        ("celery_app = ['a:b']", "['a:b'] is not a single value. Valid: a string or a number."),
    ],
)
def test_wrong_toml_types(configure, pytester, line, message):
    """A value of a type that means nothing is refused in the words of every other message."""
    pytester.path.joinpath("pytest.toml").write_text(f"[pytest]\n{line}")
    assert refused(configure).startswith(f"{line.split()[0]} in pytest.toml: {message}")


@pytest.mark.parametrize("file", ["pytest.ini", "none"])
def test_override(configure, pytester, file):
    """A value given by -o beats the file and is named after -o, with a file or without."""
    if file != "none":
        pytester.path.joinpath(file).write_text("[pytest]\ncelery_pools = all")
    settings = configure("-o", "celery_pools=solo,threads", "-o", "celery_timeout=3")
    assert names(settings) == ["solo", "threads"]
    assert settings.timeout == 3
    assert settings.sources["pools"] == "-o celery_pools"


@NATIVE_TOML
def test_override_of_native_toml(configure, pytester):
    """A value given by -o is a string, also where the file is in pytest's own TOML form."""
    pytester.path.joinpath("pytest.toml").write_text('[pytest]\ncelery_pools = "all"\ncelery_timeout = 10')
    settings = configure("-o", "celery_pools=solo", "-o", "celery_timeout=3")
    assert names(settings) == ["solo"]
    assert settings.timeout == 3


def test_help(configure, pytester):
    """pytest --help shows each option once as a flag and once as an ini key."""
    lines = pytester.runpytest_inprocess("-p", "only_options", "--help").stdout.lines
    for name in ("pools", "app", "launch", "concurrency", "broker", "backend", "timeout"):
        assert sum(line.strip().startswith(f"--celery-{name}=") for line in lines) == 1
        assert sum(line.strip().startswith(f"celery_{name} (") for line in lines) == 1


@pytest.mark.parametrize("value", ["false", "off", "no", "0"])
def test_flag_in_a_file(configure, pytester, value):
    """A flag of a file may be switched off, and then nobody wants evidence."""
    pytester.makeini(f"[pytest]\ncelery_advise = {value}")
    settings = configure()
    assert not settings.advise
    assert not settings.wants_evidence


def test_flag_refused(configure, pytester):
    """A flag is true or false."""
    pytester.makeini("[pytest]\ncelery_advise = ture")
    assert refused(configure) == (
        "celery_advise in tox.ini: 'ture' is not valid. Valid: true or false. Did you mean 'true'?"
    )


def test_baseline_needs_a_file(configure):
    """A baseline without a name of a file is refused."""
    assert refused(configure, "--celery-baseline=").startswith("--celery-baseline: no file is named. Valid: ")


RATCHET_HELP = "Valid: [MEASURE:]STATISTIC:+N%, separated by commas, as in p95:+20% or cpu:max:+10%."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"nothing is given. {RATCHET_HELP}"),
        ("p95", f"'p95' is not valid. {RATCHET_HELP}"),
        ("p95:20", f"'p95:20' is not valid. {RATCHET_HELP}"),
        ("p95:-20%", f"'p95:-20%' is not valid. {RATCHET_HELP}"),
        ("a:cpu:p95:+20%", f"'a:cpu:p95:+20%' is not valid. {RATCHET_HELP}"),
        (
            "runtme:p95:+20%",
            "'runtme' in 'runtme:p95:+20%' is not a measure. Valid: runtime, cpu, hold, queued. "
            "Did you mean 'runtime'?",
        ),
        ("p100:+20%", "'p100' in 'p100:+20%' is not a statistic. Valid: p1 to p99, as in p95, or max."),
        ("mean:+20%", "'mean' in 'mean:+20%' is not a statistic. Valid: p1 to p99, as in p95, or max."),
        ("p95:+20%,p95:+10%", "runtime:p95 is given twice in 'p95:+20%,p95:+10%'."),
    ],
)
def test_ratchet_refused(configure, text, message):
    """What is no ratchet is refused with what is valid."""
    assert refused(configure, "--celery-baseline=b", f"--celery-budget-ratchet={text}") == (
        f"--celery-budget-ratchet: {message}"
    )


def test_ratchet_needs_a_baseline(configure):
    """There is nothing to compare with."""
    assert refused(configure, "--celery-budget-ratchet=p95:+20%") == (
        "--celery-budget-ratchet: there is nothing to compare with. Name the file of earlier runs too, as in "
        "--celery-baseline=celery-baseline.json."
    )


@pytest.mark.parametrize("app", ["proj", "proj.celery", "proj.celery:app", "proj:make_app()", "_p.ü:a1"])
def test_app(configure, app):
    """An application is a module, an attribute of one, or a factory in one."""
    assert configure(f"--celery-app={app}").app == app


@pytest.mark.parametrize(
    "app",
    [
        "",
        "pro j",
        "proj:",
        ":app",
        "a:b:c",
        "a:b(1)",
        "a:b()()",
        "a()",
        "a:b.c",
        "src/app.py",
        "a..b",
        "1a:b",
        "a-b:c",
    ],
)
def test_app_refused(configure, app):
    """Anything else is refused with the three forms that are valid."""
    assert refused(configure, f"--celery-app={app}") == (
        f"--celery-app: {app!r} does not name an application. Valid: MODULE, MODULE:ATTR or "
        "MODULE:FACTORY(), "
        "as in proj.celery:app; a factory is called without arguments."
    )


BROKERS = "redis://, rediss://, redis+socket://, amqp://, amqps://, pyamqp://"


@pytest.mark.parametrize(
    "broker",
    [
        "embedded",
        "app",
        "redis://localhost:6379/0",
        "rediss://h",
        "redis+socket:///tmp/s",
        "amqp://guest:guest@h//",
        "amqps://h/v",
        "pyamqp://",
        "amqp://a;amqp://b",
    ],
)
def test_broker(configure, broker):
    """A broker is one of two words, or a URL of Redis or RabbitMQ."""
    assert configure(f"--celery-broker={broker}").broker == broker


@pytest.mark.parametrize(
    ("broker", "message"),
    [
        (
            "redis",
            "--celery-broker: 'redis' is neither embedded nor app nor a URL. Valid: embedded, app, or a "
            "URL that "
            f"begins with one of {BROKERS}. Did you mean 'redis://'?",
        ),
        (
            "embeded",
            "--celery-broker: 'embeded' is neither embedded nor app nor a URL. Valid: embedded, app, or a "
            "URL "
            f"that begins with one of {BROKERS}. Did you mean 'embedded'?",
        ),
        (
            "memory://",
            "--celery-broker: memory:// is not a broker that tests can run on. Valid: embedded, app, or a "
            "URL "
            f"that begins with one of {BROKERS}. A worker is a process of its own, and memory:// does not "
            "leave "
            "the process it is used in.",
        ),
        (
            "reddis://u:secret@h",
            "--celery-broker: reddis:// is not a broker that tests can run on. Valid: embedded, app, or a "
            "URL "
            f"that begins with one of {BROKERS}. Did you mean 'redis'?",
        ),
        (
            "guest:secret@host",
            "--celery-broker: 'guest:***@host' is neither embedded nor app nor a URL. Valid: embedded, "
            "app, or a "
            f"URL that begins with one of {BROKERS}.",
        ),
    ],
)
def test_broker_refused(configure, broker, message):
    """Another broker is refused with what is valid, and without a password."""
    assert refused(configure, f"--celery-broker={broker}") == message


@pytest.mark.parametrize("backend", ["embedded", "app", "rpc://", "redis://h/1", "db+sqlite:///x", "cache+memory://"])
def test_backend(configure, backend):
    """Which URLs are result backends is Celery's business."""
    assert configure(f"--celery-backend={backend}").backend == backend


@pytest.mark.parametrize("backend", ["rpc", "redis", "", "redis://a b"])
def test_backend_refused(configure, backend):
    """A name without :// is refused."""
    assert refused(configure, f"--celery-backend={backend}").startswith(
        f"--celery-backend: {backend!r} is neither embedded nor app nor a URL. Valid: embedded, app, or a "
        "URL, "
        "such as redis://…, rpc:// or db+postgresql://….",
    )


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "10s", "", "abc"])
def test_timeout_refused(configure, timeout):
    """A timeout is a finite number above zero."""
    assert refused(configure, f"--celery-timeout={timeout}") == (
        f"--celery-timeout: {timeout!r} is not a timeout. Valid: a number of seconds above 0, as in 10 or 2.5."
    )


def test_pools_refused(configure, pytester):
    """A wrong pool in a file is reported with the key and the file."""
    pytester.makeini("[pytest]\ncelery_pools = gevnt")
    assert refused(configure) == (
        "celery_pools in tox.ini: 'gevnt' is not a pool. Valid pools: prefork, solo, threads, gevent, "
        "eventlet, "
        "all, own, or pkg.module:TaskPool. Did you mean 'gevent'?"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("redis://:secret@host:6379", "redis://:***@host:6379"),
        ("amqp://user:se:cr@et@host//", "amqp://user:***@host//"),
        ("amqp://user@host//", "amqp://user@host//"),
        ("amqp://a:x@h;amqp://b:y@h", "amqp://a:***@h;amqp://b:***@h"),
        ("a:b@h", "a:***@h"),
        ("embedded", "embedded"),
    ],
)
def test_hide_password(url, shown):
    """A URL is shown without its password and otherwise as it is."""
    assert hide_password(url) == shown


def per_pool(text, processors=4, nodes=0):
    concurrency = Concurrency.parse(text, "--celery-concurrency")
    return [concurrency.for_pool(each, processors, nodes) for each in POOLS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3, 1, 3, 3, 3]),
        ("app", [None] * 5),
        ("gevent=200,prefork=2", [2, 1, 8, 200, 100]),
        ("4,gevent=200", [4, 1, 4, 200, 4]),
        ("gevent = 200 , 4", [4, 1, 4, 200, 4]),
        ("app,gevent=200", [None, None, None, 200, None]),
        ("solo=4", [4, 4, 8, 100, 100]),
    ],
)
def test_concurrency(text, expected):
    """A number named for a pool comes first, then the number for all, then the pool's default."""
    assert per_pool(text) == expected


def test_concurrency_defaults_know_the_machine():
    """The default follows the processors and the xdist nodes."""
    assert [Concurrency().for_pool(each, 2, 2) for each in POOLS] == [1, 1, 8, 100, 100]


def test_concurrency_of_a_custom_pool():
    """A custom pool can be named."""
    custom = pool("proj.pools:TaskPool")
    assert Concurrency.parse("proj.pools:TaskPool=7,2", "x").for_pool(custom, 4, 0) == 7


@pytest.mark.parametrize("text", ["3", "app", "4,gevent=200", "gevent=200,prefork=2"])
def test_concurrency_shows_itself(text):
    """What a header shows is what was given."""
    assert str(Concurrency.parse(text, "x")) == text


SLOTS = "Valid: a number above 0, app, or POOL=NUMBER for single pools, as in gevent=200,prefork=2."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", f"'0' is not a concurrency. {SLOTS}"),
        ("-1", f"'-1' is not a concurrency. {SLOTS}"),
        ("many", f"'many' is not a concurrency. {SLOTS}"),
        ("+4", f"'+4' is not a concurrency. {SLOTS}"),
        ("2.5", f"'2.5' is not a concurrency. {SLOTS}"),
        ("gevent=0", f"'gevent=0' is not a concurrency. {SLOTS}"),
        ("gevent=app", f"'gevent=app' is not a concurrency. {SLOTS}"),
        ("gevent=", f"'gevent=' is not a concurrency. {SLOTS}"),
        ("", f"no number is given. {SLOTS}"),
        (
            "gevnt=2",
            "'gevnt' is not a pool. Valid pools: prefork, solo, threads, gevent, eventlet, or "
            "pkg.module:TaskPool. Did you mean 'gevent'?",
        ),
        ("gevent=2,gevent=3", "'gevent' is given twice in 'gevent=2,gevent=3'."),
        (
            "4,8",
            "'4,8' says twice what holds for the pools that it does not name. Name a pool, as in "
            "gevent=200, or "
            "give one number.",
        ),
    ],
)
def test_concurrency_refused(text, message):
    """A value that is no concurrency is refused with what is valid."""
    with pytest.raises(SettingError) as error:
        Concurrency.parse(text, "--celery-concurrency")
    assert str(error.value) == f"--celery-concurrency: {message}"


@pytest.mark.parametrize(
    ("text", "pools", "most"),
    [("9", "prefork", 8), ("501", "threads", 500), ("5001", "gevent", 5000), ("5001", "eventlet", 5000)],
)
def test_concurrency_too_much(text, pools, most):
    """A number for all pools that is far too much for one of them has to be given for that pool."""
    with pytest.raises(SettingError) as error:
        Concurrency.parse(text, "--celery-concurrency").check(parse_pools(pools, "x"), processors=2)
    assert str(error.value) == (
        f"--celery-concurrency: {text} slots are too many for {pools}, which gets at most {most} from a "
        "number "
        f"for all pools. If you mean it, name the pool: {pools}={text}"
    )


@pytest.mark.parametrize(
    ("text", "pools"),
    [
        ("8", "prefork"),
        ("500", "threads"),
        ("5000", "gevent,eventlet"),
        ("5000", "solo"),
        ("9999", "proj.pools:TaskPool"),
        ("gevent=8000", "all"),
        ("8000,gevent=8000", "gevent"),
        ("app", "all"),
    ],
)
def test_concurrency_plausible(text, pools):
    """What is within bounds, named, or of no effect is let through."""
    Concurrency.parse(text, "x").check(parse_pools(pools, "x"), processors=2)


def test_concurrency_warns():
    """solo ignores a concurrency, which is said; solo=1 is what it does anyway."""
    assert Concurrency.parse("solo=4,gevent=9", "--celery-concurrency").warnings() == (
        "--celery-concurrency: solo=4 is passed on, but the pool solo ignores it: it runs one task at a time.",
    )
    assert Concurrency.parse("solo=1", "x").warnings() == ()
    assert Concurrency.parse("4", "x").warnings() == ()
