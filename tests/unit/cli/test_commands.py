"""The commands on a memory journal: what they print, in words and as JSON, and their exit codes."""

import json
import re
from typing import Any

import click
import pytest
from click.testing import CliRunner

from continuum import Continuum, RunState
from continuum.cli import COMMANDS, main, release
from continuum.cli.dispatcher import main as dispatcher_main
from continuum.cli.shell import EXIT_CODES, ExitCode
from continuum.errors import ContinuumError
from tests.integration.client import flows
from tests.support.eventually import eventually
from tests.unit.cli.calling import APP, NOBODY, cli, document


def test_version_and_help_say_what_they_should() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"continuum {release()}\n"
    text = CliRunner().invoke(main, ["--help"]).output
    for word in ("migrate", "start", "runs", "show", "signal", "cancel", "terminate", "demo", "Exit codes"):
        assert word in text
    assert "--processes" in CliRunner().invoke(dispatcher_main, ["--help"]).output


def test_every_command_takes_json_and_help() -> None:
    names = main.list_commands(click.Context(main))
    assert len(names) == len(COMMANDS) + 1
    for name in names:
        text = CliRunner().invoke(main, [name, "--help"]).output
        assert "--json" in text, name
        assert "--database-url" in text, name


def test_starting_prints_the_id(shop: Continuum) -> None:
    run_id = cli("start", "client.sum", "--input", "[1, 2]").stdout.strip()
    assert shop.get(run_id).workflow == "client.sum"
    assert document("start", "client.sum", "--input", '{"a": 1}')["id"] != run_id


@pytest.mark.parametrize(
    ("given", "recorded"), [("[1, 2]", "[1,2]"), ('{"a": 1, "b": 3}', "[1,3]"), ("5", "[5,1]"), ("@-", None)]
)
def test_inputs_are_arrays_objects_or_one_value(shop: Continuum, given: str, recorded: str | None) -> None:
    result = cli("start", "client.sum", "--input", given)
    if recorded is None:
        assert result.exit_code == ExitCode.USAGE
        return
    started = shop.history(result.stdout.strip())[0].payload or ""
    assert recorded in started or f"{recorded[:-3]}]" in started


def test_inputs_are_read_by_the_workflow_s_hints(shop: Continuum) -> None:
    text = '{"items": [{"name": "a", "price": "1.10"}]}'
    run_id = cli("start", "client.echo", "--input", "-", stdin=text).stdout.strip()
    with shop.running():
        [item] = shop.handle(run_id).result(timeout=20)
    assert item == flows.Item("a", item.price)
    assert str(item.price) == "1.10"


def test_an_input_file_is_read(shop: Continuum, tmp_path: Any) -> None:
    file = tmp_path / "input.json"
    file.write_text("[4]")
    assert cli("start", "client.sum", "--input", f"@{file}").exit_code == 0
    missing = cli("start", "client.sum", "--input", f"@{tmp_path}/none")
    assert (missing.exit_code, "cannot read" in missing.stderr) == (ExitCode.USAGE, True)


def test_waiting_prints_the_result(shop: Continuum) -> None:
    with shop.running():
        assert cli("start", "client.sum", "--input", "[1, 2]", "--wait", "--timeout", "20").stdout.endswith("\n3\n")
        answer = document("start", "client.sum", "--input", "[1, 2]", "--wait")
        assert answer["result"] == 3


def test_waiting_can_time_out_and_can_meet_a_failure(shop: Continuum) -> None:
    late = cli("start", "client.forever", "--wait", "--timeout", "0")
    assert late.exit_code == ExitCode.TIMEOUT
    assert "goes on" in late.stderr
    with shop.running():
        failed = cli("start", "client.broken", "--input", '["no such order"]', "--wait")
    assert failed.exit_code == ExitCode.RUN_FAILED
    assert "ValueError: no such order" in failed.stderr
    assert "flows.py" in failed.stderr  # where it was raised


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("start", "client.sun"), ExitCode.USAGE, "'client.sum'"),
        (("start", "client.sum", "--input", "[1"), ExitCode.USAGE, "--input is not JSON"),
        (("start", "client.sum", "--input", "o1"), ExitCode.USAGE, "quotes"),
        (("start", "client.sum"), ExitCode.USAGE, "missing a required argument: 'a'"),
        (("start", "client.sum", "--input", '{"a": 1, "nonsense": 1}'), ExitCode.USAGE, "nonsense"),
        (("start", "client.sum", "--input", "[1]", "--attributes", "[1]"), ExitCode.USAGE, "attributes"),
        (("start", "client.sum", "--input", '"a"'), ExitCode.USAGE, "'a' must be int"),
        (("start", "client.sum", "--input", '{"a": 1, "b": null}'), ExitCode.USAGE, "'b' must be int"),
        (("start", "client.echo", "--input", '[[{"name": 7, "price": "1"}]]'), ExitCode.USAGE, "'items' must be list"),
        (("start", "client.sum", "--input", "[1]", "--timeout", "nan"), ExitCode.USAGE, "--timeout"),
        (("start", "client.sum", "--input", "[1]", "--namespace", "\udcff"), ExitCode.USAGE, "namespace"),
        (("runs", "--workflow", "\udcff"), ExitCode.USAGE, "workflow"),
        (("start",), ExitCode.USAGE, "WORKFLOW"),
        (("show", NOBODY), ExitCode.NOT_FOUND, NOBODY),
        (("show", "order-1"), ExitCode.NOT_FOUND, "UUID"),
        (("signal", NOBODY, "s"), ExitCode.NOT_FOUND, NOBODY),
        (("signal", NOBODY, "s", "--value", "{"), ExitCode.USAGE, "--value is not JSON"),
        (("cancel", NOBODY), ExitCode.NOT_FOUND, NOBODY),
        (("terminate", NOBODY), ExitCode.NOT_FOUND, NOBODY),
        (("runs", "--cursor", "forged"), ExitCode.USAGE, "cursor"),
        (("runs", "--limit", "0"), ExitCode.USAGE, "--limit"),
        (("runs", "--state", "waiting"), ExitCode.USAGE, "--state"),
    ],
)
def test_what_is_wrong_has_a_code_and_a_sentence(
    shop: Continuum, arguments: tuple[str, ...], code: ExitCode, words: str
) -> None:
    result = cli(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_are_json_where_json_was_asked_for(shop: Continuum) -> None:
    result = cli("show", NOBODY, "--json")
    assert result.exit_code == ExitCode.NOT_FOUND
    error = json.loads(result.stderr)["error"]
    assert (error["type"], error["exit_code"]) == ("RunNotFound", 3)


def test_errors_are_json_also_if_no_option_stands_before_the_command(shop: Continuum) -> None:
    for arguments in (("show", NOBODY), ("runs", "--order", "size"), ("runs", "--limit", "0")):
        result = CliRunner().invoke(main, [*arguments, "-A", APP, "--json"])
        assert json.loads(result.stderr)["error"]["exit_code"] == result.exit_code


@pytest.mark.parametrize(
    "arguments", [("runs", "--limit", "0", "--json"), ("--json", "runs", "--nonsense"), ("start", "--json")]
)
def test_wrong_usage_is_json_as_well(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["-A", APP, *arguments])
    assert result.exit_code == ExitCode.USAGE
    assert json.loads(result.stderr)["error"]["exit_code"] == ExitCode.USAGE


def test_every_error_of_ours_has_an_exit_code_above_zero() -> None:
    assert all(issubclass(kind, ContinuumError) and code > 0 for kind, code in EXIT_CODES)


def test_runs_are_listed_and_filtered(shop: Continuum) -> None:
    assert cli("runs").stdout == "No runs.\n"
    ids = [shop.start(flows.forever, namespace="eu").id for _ in range(3)]
    shop.start(flows.total, 1)
    text = cli("runs", "--workflow", "client.forever").stdout
    assert all(run_id in text for run_id in ids)
    assert "client.sum" not in text
    listed = document("runs", "--namespace", "eu", "--limit", "2")
    assert [run["id"] for run in listed["runs"]] == ids[::-1][:2]
    rest = document("runs", "--namespace", "eu", "--cursor", listed["cursor"])
    assert [run["id"] for run in rest["runs"]] == ids[::-1][2:]
    assert document("runs", "--state", "completed")["runs"] == []


def test_more_runs_than_fit_say_how_to_go_on(shop: Continuum) -> None:
    for _ in range(3):
        shop.start(flows.forever)
    assert "more: --cursor " in cli("runs", "--limit", "2").stdout


def test_show_tells_what_happened_and_why_it_waits(shop: Continuum) -> None:
    handle = shop.start(flows.wait_for_approval)
    with shop.running():
        eventually(lambda: handle.refresh().state == RunState.SUSPENDED)
        text = cli("show", handle.id).stdout
        assert "waits for signal client.approval since" in text
        assert "flows.py:" in text
        shown = document("show", handle.id)
    assert shown["run"]["state"] == "suspended"
    assert [step["kind"] for step in shown["steps"]] == ["signal"]
    assert shown["findings"][0]["weight"] == "fine"
    assert shown["events"] is None
    assert shown["ending"] is None


def test_show_of_a_run_that_nobody_takes_says_what_is_missing(shop: Continuum) -> None:
    handle = shop.start(flows.total, 1)
    text = cli("show", handle.id).stdout
    assert "there is no live dispatcher" in text
    assert "continuum-dispatcher -A" in text
    assert "It has asked for nothing yet." in text


def test_show_says_how_a_run_ended(shop: Continuum) -> None:
    with shop.running():
        good, bad = shop.start(flows.total, 1, 2), shop.start(flows.broken, "no such order")
        good.result(timeout=20)
        with pytest.raises(ContinuumError):
            bad.result(timeout=20)
    killed = shop.start(flows.forever)
    killed.terminate("asked by finance")
    assert re.search(r"^result +3 *$", cli("show", good.id).stdout, re.MULTILINE)
    text = cli("show", bad.id).stdout
    assert "ValueError: no such order" in text
    assert "flows.py" in text
    assert "nothing yet" not in text
    assert "asked by finance" in cli("show", killed.id).stdout
    assert document("show", good.id)["ending"]["result"] == 3
    assert document("show", bad.id)["ending"]["error"]["type"] == "ValueError"
    assert document("show", killed.id)["ending"]["reason"] == "asked by finance"


def test_show_can_print_the_raw_history(shop: Continuum) -> None:
    with shop.running():
        handle = shop.start(flows.total, 1, 2, attributes={"a": 1}, idempotency_key="k")
        handle.result(timeout=20)
    text = cli("show", handle.id, "--events").stdout
    assert "activity_completed" in text
    assert "run_completed" in text
    events = document("show", handle.id, "--events")["events"]
    assert events[-1]["payload"] == 3
    header = cli("show", handle.id).stdout
    assert '{"a":1}' in header
    assert "completed" in header


def test_text_of_users_is_never_read_as_markup(shop: Continuum) -> None:
    handle = shop.start(flows.broken, "[bold]not[/bold] [/] markup", namespace="[red]ns[/red]")
    with shop.running(), pytest.raises(ContinuumError):
        handle.result(timeout=20)
    assert "[red]ns[/red]" in cli("runs").stdout
    assert "[red]ns[/red]" in cli("show", handle.id).stdout
    assert "[bold]not" in cli("show", handle.id, "--events").stdout


def test_text_of_users_does_not_command_the_terminal(shop: Continuum) -> None:
    handle = shop.start(flows.broken, "\x1b]0;title\x07 \x9b31m", namespace="\x1b[31mns")
    with shop.running(), pytest.raises(ContinuumError):
        handle.result(timeout=20)
    for result in (cli("runs"), cli("show", handle.id), cli("show", handle.id, "--events")):
        assert not {"\x1b", "\x07", "\x9b"} & set(result.stdout)
    with shop.running():
        waited = cli("start", "client.broken", "--input", '["\\u001b[31m"]', "--wait")
    assert "\x1b" not in waited.stderr.replace("\x1b[31mError", "").replace("\x1b[0m", "")


def test_a_signal_says_what_became_of_it(shop: Continuum) -> None:
    handle = shop.start(flows.first_signal, "s")
    assert cli("signal", handle.id, "s", "--value", '{"a": 1}', "--delivery-id", "d").stdout == "delivered\n"
    assert document("signal", handle.id, "s", "--delivery-id", "d")["outcome"] == "duplicate"
    with shop.running():
        assert handle.result(timeout=20) == {"a": 1}
    assert cli("signal", handle.id, "s").exit_code == ExitCode.ENDED


def test_a_signal_that_the_workflow_does_not_declare_is_wrong_usage(shop: Continuum) -> None:
    handle = shop.start(flows.clerk)
    for arguments, words in (
        (("signal", handle.id, "typo"), "declares: client.approval, client.price_of. Nothing was sent."),
        (("signal", handle.id, "client.approval", "--value", "7"), "must be a text, and 7 is not"),
        (("ask", handle.id, "client.approval", '"x"'), "does not answer signal 'client.approval'"),
        (("ask", handle.id, "client.price_of", "7"), "must be a text, and 7 is not"),
    ):
        result = cli(*arguments)
        assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
        assert words in result.stderr


def test_a_question_prints_its_answer(shop: Continuum) -> None:
    with shop.running():
        handle = shop.start(flows.clerk)
        question = ("ask", handle.id, "client.price_of", '"tea"', "--delivery-id", "d")
        assert cli(*question, "--timeout", "20").stdout == "3\n"
        assert document(*question) == {"id": handle.id, "signal": "client.price_of", "reply": "3"}
        assert cli("ask", handle.id, "client.price_of", '"milk"', "--timeout", "0.1").exit_code == ExitCode.TIMEOUT
        handle.signal(flows.approval, "yes")
        handle.result(timeout=20)
    assert cli("ask", handle.id, "client.price_of", '"tea"').exit_code == ExitCode.ENDED
    assert cli("ask", NOBODY, "client.price_of").exit_code == ExitCode.NOT_FOUND
    assert cli("ask", handle.id, "s", "{").exit_code == ExitCode.USAGE


def test_a_cancel_is_a_request(shop: Continuum) -> None:
    handle = shop.start(flows.forever)
    assert cli("cancel", handle.id).stdout == "requested\n"
    assert handle.history()[-1].type in {"run_started", "cancel_requested"}


def test_terminate_does_nothing_until_it_is_told_to(shop: Continuum) -> None:
    handle = shop.start(flows.forever)
    dry = cli("terminate", handle.id)
    assert (dry.exit_code, "--execute" in dry.stdout) == (0, True)
    told = document("terminate", handle.id)
    assert ([run["id"] for run in told["would_terminate"]], told["executed"]) == ([handle.id], False)
    assert not handle.refresh().ended
    assert cli("terminate", handle.id, "--reason", "\udcff", "--execute").exit_code == ExitCode.USAGE
    assert cli("terminate", handle.id, "--reason", "a test", "--execute").stdout == f"terminated {handle.id}\n"
    assert handle.refresh().state == RunState.TERMINATED
    for execute in ((), ("--execute",)):
        assert cli("terminate", handle.id, *execute).exit_code == ExitCode.ENDED


def test_a_namespace_is_a_wall_here_too(shop: Continuum) -> None:
    handle = shop.start(flows.forever, namespace="eu")
    for command in (("show",), ("cancel",), ("terminate",)):
        assert cli(*command, handle.id, "--namespace", "us").exit_code == ExitCode.NOT_FOUND
    assert cli("signal", handle.id, "s", "--namespace", "us").exit_code == ExitCode.NOT_FOUND
    assert cli("show", handle.id, "--namespace", "eu").exit_code == 0


def test_options_may_stand_on_either_side_of_the_command(shop: Continuum) -> None:
    shop.start(flows.forever)
    before = CliRunner().invoke(main, ["--json", "-A", APP, "runs"])
    after = CliRunner().invoke(main, ["runs", "--json", "-A", APP])
    assert json.loads(before.stdout) == json.loads(after.stdout)
    assert CliRunner().invoke(main, ["runs"], env={"CONTINUUM_APP": APP}).exit_code == 0


def test_without_app_and_database_the_error_says_what_to_set() -> None:
    result = CliRunner().invoke(main, ["runs"])
    assert result.exit_code == ExitCode.USAGE
    assert "CONTINUUM_DATABASE_URL" in result.stderr


def test_a_dispatcher_without_an_app_says_so() -> None:
    result = CliRunner().invoke(dispatcher_main, [])
    assert result.exit_code == ExitCode.USAGE
    assert "-A myapp" in result.stderr


@pytest.mark.parametrize("queues", ["a=0", "a=x", "a=-1", ",", "", "\udcff", "=2"])
def test_queues_of_a_dispatcher_are_checked(shop: Continuum, queues: str) -> None:
    result = CliRunner().invoke(dispatcher_main, ["-A", APP, "--queues", queues])
    assert result.exit_code == ExitCode.USAGE
    assert "--queues" in result.stderr
