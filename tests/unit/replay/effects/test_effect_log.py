"""The log: lines appear once, after the commit, however often the code is replayed."""

import asyncio
import logging

import pytest

from continuum.errors import NotInWorkflow
from continuum.replay.effects.log import log
from tests.replay.lab import Lab, act, replay


def lines(lab):
    return [(line.level, line.message) for line in lab.logs]


def test_lines_are_part_of_the_decision_and_silent_on_replay():
    async def flow():
        log.info("before %s", 1)
        await act("a")
        log.warning("after")
        await act("b")

    lab = Lab(flow).begin()
    assert lines(lab) == [(logging.INFO, "before 1")]
    lab.complete(0)
    assert lines(lab)[1:] == [(logging.WARNING, "after")]
    lab.replays()

    resumed = Lab(flow, history=lab.history)
    assert resumed.execution.decide().logs == []
    resumed.complete(1)
    assert lines(resumed) == []
    lab.close()


def test_it_has_the_methods_of_a_standard_logger():
    async def flow():
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")
        log.critical("c")
        log.log(15, "l", stacklevel=2, stack_info=True)
        try:
            raise ValueError("x")  # noqa: TRY301
        except ValueError as error:
            log.exception("caught")
            log.info("given", exc_info=error)
        return log.isEnabledFor(10)

    lab = Lab(flow).begin()
    assert lab.result is True
    assert [level for level, _ in lines(lab)] == [10, 20, 30, 40, 50, 15, 40, 20]
    assert lines(lab)[6][1].startswith("caught\nTraceback")
    assert lines(lab)[6][1].endswith("ValueError: x")
    assert lines(lab)[7][1].endswith("ValueError: x")
    assert {line.logger for line in lab.logs} == {"continuum.workflow"}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("%s and %d", "a", 2), "a and 2"),
        (("%(x)s", {"x": 1}), "1"),
        (("100%",), "100%"),
        (("%d", "no number"), "%d ('no number',)"),
        (("%s",), "%s"),
        (("too many", 1), "too many (1,)"),
        ((ValueError("an object"),), "an object"),
    ],
)
def test_arguments_are_formatted_as_the_standard_library_does_and_never_fail_a_run(args, text):
    async def flow():
        log.info(*args)

    assert lines(Lab(flow).begin()) == [(20, text)]


def test_extra_becomes_fields():
    async def flow():
        log.info("x", extra={"order": 7})

    assert Lab(flow).begin().logs[0].fields == {"order": 7}


def test_whether_it_is_enabled_tells_live_from_replay():
    seen = []

    async def flow():
        seen.append(log.isEnabledFor(50))
        await act("a")

    lab = Lab(flow).begin()
    replay(flow, lab.history)
    assert seen == [True, False]
    lab.close()


@pytest.mark.parametrize("call", [lambda: log.info("x"), lambda: log.isEnabledFor(1), lambda: log.exception("x")])
def test_outside_of_workflows_it_says_so(call):
    with pytest.raises(NotInWorkflow):
        call()

    async def host():
        call()

    with pytest.raises(NotInWorkflow):
        asyncio.run(host())


@pytest.mark.parametrize("how", ["argument", "message", "format and repr", "error", "effect"])
def test_a_line_that_cannot_be_written_makes_no_difference_between_live_and_replay(how):
    class Bad(Exception):
        def __str__(self):
            if how == "effect":
                act("asked for by a text")
            raise AttributeError("no text")

        __repr__ = __str__

    async def flow():
        try:
            match how:
                case "argument":
                    log.info("a %s", Bad())
                case "format and repr":
                    log.info("a %d", Bad())
                case "error":
                    log.info("a", exc_info=Bad())
                case _:
                    log.info(Bad())
        except AttributeError:
            await act("handler")
        await act("a")

    lab = Lab(flow).run()
    assert len(lab.logs) == 1
    assert [name for _, name, _ in lab.commands] == ["a"]
    lab.replays()


def test_fields_that_are_none_are_refused_live_and_on_replay():
    async def flow():
        try:
            log.info("a", extra=5)
        except TypeError:
            await act("handler")

    lab = Lab(flow).run()
    assert [name for _, name, _ in lab.commands] == ["handler"]
    lab.replays()


def test_an_error_without_a_text_is_reported_all_the_same():
    class Bad(Exception):
        def __str__(self):
            raise KeyError("no text")

    async def flow():
        async def fail():
            raise Bad

        task = asyncio.create_task(fail(), name="lost")
        await act("a")
        del task

    lab = Lab(flow).run()
    assert lines(lab) == [
        (logging.ERROR, "task 'lost' failed and nobody was awaiting it: Bad: <its text raised KeyError>")
    ]
    lab.replays()
