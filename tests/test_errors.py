"""Messages name what the user wrote.

python -m pytest tests/test_errors.py
"""

from __future__ import annotations

import errno
import resource

import pytest

from mtcl.errors import ConfigError, DataError, MtclError, advised, at
from mtcl.training.task_config import MixtureConfig, TaskConfig
from tests.conftest import Run


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("num is 0: give at least 1", "--num is 0: give at least 1"),
        ("limit is 1: num is more", "data.pairs is 1: num is more"),
        ("num", "--num"),
        ("limits is not limit", "--limits is not limit"),
    ],
)
def test_the_first_word_becomes_the_user_s_name(message: str, told: str) -> None:
    error = ConfigError(message)
    error.on_all_ranks = True
    with pytest.raises(ConfigError) as caught, at("--", limit="data.pairs"):
        fail(error)
    assert str(caught.value) == told
    assert caught.value is error, "its cause, its traceback and what else it knows are kept"


def test_other_errors_and_other_names_are_left_alone() -> None:
    with pytest.raises(DataError, match=r"^num is 0$"), at("--"):
        fail(DataError("num is 0"))
    with pytest.raises(ConfigError, match=r"^num is 0$"), at(below="--below"):
        fail(ConfigError("num is 0"))
    with pytest.raises(DataError, match=r"^task 'a', num is 0$"), at("task 'a', ", MtclError):
        fail(DataError("num is 0"))


def test_callers_add_to_each_other() -> None:
    with pytest.raises(ConfigError) as caught, at("the study's arm: "), at("tasks.a."):
        fail(ConfigError("weight is 0"))
    assert str(caught.value) == "the study's arm: tasks.a.weight is 0"


@pytest.mark.parametrize(
    ("mixture", "task", "told"),
    [
        ({"alpha": -1.0}, {}, "data.alpha is -1.0"),
        ({"cap": 0}, {}, "data.cap is 0"),
        ({"tasks_per_step": 0}, {}, "data.tasks_per_step is 0"),
        ({"pairs_per_task": 1}, {}, "data.pairs_per_task is 1"),
        ({}, {"weight": 0.0}, "tasks.a.weight is 0.0"),
        ({}, {"batch_size": 1}, "tasks.a.batch_size is 1"),
        ({"batch_size": 1}, {}, "data.batch_size is 1"),
        ({}, {"weight_schedule": {0: 1.0}}, "tasks.a.weight_schedule has weight 1.0 from step 0 on"),
    ],
)
def test_the_plan_s_errors_name_the_keys_of_a_configuration(
    mixture: dict[str, float], task: dict[str, float], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        MixtureConfig(**mixture).plan({"a": TaskConfig(**task)}, {"a": 10}, seed=0)  # type: ignore[arg-type]
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    "error",
    [
        DataError("task 'a', train: [Errno 24] Too many open files"),
        OSError(errno.EMFILE, "Too many open files", "/data/a.parquet"),
    ],
)
def test_a_low_limit_of_open_files_is_told_with_what_to_do(
    error: Exception, mtcl_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtcl.commands.demo.main", lambda *_: fail(error))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # the command raises it to what it is told is possible
    done = mtcl_command("demo", "out")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert line.endswith(": the limit is 64: raise it, for example with ulimit -n 1024")
    assert "Too many open files" in line
    assert advised(line) == line
    assert advised("out of luck") == "out of luck"
    told = advised("task 'search', train: Read-only file system: /cache")
    assert (
        told == "task 'search', train: Read-only file system: /cache: give a folder that can be written (MTCL_CACHE is "
        "that of the cache)"
    )


def test_every_command_raises_the_limit_of_open_files(mtcl_command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the system allows: a server needs one per connection, a comparison one per file of a store."""
    seen: list[int] = []
    monkeypatch.setattr("mtcl.commands.demo.main", lambda *_: seen.append(limit()) or 0)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[1] - 1, 200), before[1]))
    try:
        assert mtcl_command("demo", "out").returncode == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert seen == [before[1]]


def limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
