"""``runs --where``, ``tree``, ``progress``, ``set-attributes``, and endings with ``--cascade``: words, JSON, codes."""

import json
from typing import Any

import pytest

from continuum import Continuum, publish, start_child, wait_signal, workflow
from continuum.cli.conditions import parse_conditions
from continuum.cli.shell import ExitCode
from continuum.errors import SearchError
from continuum.model.search import parse_query
from tests.integration.client import flows
from tests.support.eventually import eventually
from tests.unit.cli.calling import NOBODY, cli, document
from tests.unit.cli.shop import URL

WAIT = 20.0


@workflow(name="cli.parent")
async def parent(children: int) -> None:
    for _ in range(children):
        start_child(parent, 0, on_parent_close="abandon")
    publish("[b]step[/b]", {"done": children})
    await wait_signal("never")


def found(*arguments: str) -> list[str]:
    return [run["id"] for run in document("runs", *arguments)["runs"]]


# ------------------------------------------------------------------ conditions as they are written


@pytest.mark.parametrize(
    ("written", "condition"),
    [
        ("state=failed", ("state", {"eq": "failed"})),
        (" state = failed ", ("state", {"eq": "failed"})),
        ('state=["failed","stuck"]', ("state", {"in": ["failed", "stuck"]})),
        ("state!=failed", ("state", {"ne": "failed"})),
        ("workflow~order", ("workflow", {"contains": "order"})),
        ("workflow=5", ("workflow", {"eq": "5"})),
        ("workflow=true", ("workflow", {"eq": "true"})),
        ('workflow="5"', ("workflow", {"eq": "5"})),
        ("workflow=a=b", ("workflow", {"eq": "a=b"})),
        ("version>=2", ("version", {"gte": 2})),
        ("version>2", ("version", {"gt": 2})),
        ("version<=2", ("version", {"lte": 2})),
        ("version<2", ("version", {"lt": 2})),
        ("is_tip=true", ("is_tip", {"eq": True})),
        ("parent_id=null", ("parent_id", {"eq": None})),
        ("parent_id!=null", ("parent_id", {"ne": None})),
        ("created_at>=2026-03-01T00:00:00Z", ("created_at", {"gte": "2026-03-01T00:00:00Z"})),
        ("attributes.customer=7", ("attributes.customer", {"eq": 7})),
        ('attributes.customer="7"', ("attributes.customer", {"eq": "7"})),
        ("attributes.tier=gold", ("attributes.tier", {"eq": "gold"})),
        ("attributes.tier=", ("attributes.tier", {"eq": ""})),
        ('attributes.address={"city":"Oslo"}', ("attributes.address", {"eq": {"city": "Oslo"}})),
        ("attributes.a.b>1.5", ("attributes.a.b", {"gt": 1.5})),
        ("attributes.text=a\nb", ("attributes.text", {"eq": "a\nb"})),
    ],
)
def test_a_condition_is_written_with_a_sign(written: str, condition: Any) -> None:
    assert parse_conditions([written]) == [condition]
    parse_query(parse_conditions([written]))


@pytest.mark.parametrize("written", ["", "state", "=failed", "state:failed", "!", "~x", "\udcff"])
def test_what_is_no_condition_says_how_one_is_written(written: str) -> None:
    with pytest.raises(SearchError, match="FIELD=VALUE"):
        parse_conditions([written])


# ------------------------------------------------------------------ runs


def test_runs_are_found_by_conditions_that_all_hold(shop: Continuum) -> None:
    ids = [shop.start(flows.forever, attributes={"customer": n, "tier": "gold"}).id for n in range(3)]
    other = shop.start(flows.total, 1, attributes={"customer": "1"}).id
    assert found("--where", "attributes.customer=1") == [ids[1]]
    assert found("--where", 'attributes.customer="1"') == [other]
    assert found("--where", "attributes.customer>=1", "--where", "attributes.tier=gold") == [ids[2], ids[1]]
    assert found("--where", "attributes.customer!=0", "--where", "attributes.customer!=1", "--state", "pending") == [
        other,
        ids[2],
    ]
    assert found("--where", "workflow~forever", "--order", "created_at", "--limit", "2") == ids[:2]
    assert found("--where", "is_tip=false") == []
    assert "No runs." in cli("runs", "--where", "state=failed").stdout


def test_the_next_page_keeps_the_order(shop: Continuum) -> None:
    ids = [shop.start(flows.forever).id for _ in range(3)]
    assert "more: --order id --cursor " in cli("runs", "--limit", "2", "--order", "id").stdout
    first = document("runs", "--limit", "2", "--order", "created_at")
    assert found("--order", "created_at", "--cursor", first["cursor"]) == ids[2:]
    assert cli("runs", "--cursor", first["cursor"]).exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--where", "colour=red"), "colour"),
        (("--where", "state=lost"), "lost"),
        (("--where", "state<failed"), "lt"),
        (("--where", "state"), "FIELD=VALUE"),
        (("--where", "created_at>2026-01-01"), "time zone"),
        (("--where", "id=1"), "UUID"),
        (("--where", "version=x"), "whole number"),
        (("--order", "state"), "order="),
    ],
)
def test_what_cannot_be_searched_for_is_wrong_usage(shop: Continuum, arguments: tuple[str, ...], word: str) -> None:
    result = cli("runs", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert word in result.stderr
    as_json = cli("runs", *arguments, "--json")
    assert json.loads(as_json.stderr)["error"]["type"] == "SearchError"


# ------------------------------------------------------------------ attributes and progress


def test_attributes_are_set(shop: Continuum) -> None:
    handle = shop.start(flows.forever, attributes={"a": 1}, namespace="eu")
    assert cli("set-attributes", handle.id, '{"b": [1]}').stdout == "set\n"
    assert document("set-attributes", handle.id, '{"a": 2}', "--namespace", "eu") == {"id": handle.id, "outcome": "set"}
    assert shop.get(handle.id).attributes == {"a": 2, "b": [1]}
    assert '"b":[1]' in cli("show", handle.id).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("{",), ExitCode.USAGE, "the argument is not JSON (Input data was truncated)"),
        (("{1}",), ExitCode.USAGE, "the argument is not JSON (object keys must be strings (byte 1))"),
        (("[" * 100_000,), ExitCode.USAGE, "the argument is not JSON"),
        (("\udcff",), ExitCode.USAGE, "the argument is not JSON"),
        (("[1]",), ExitCode.USAGE, "attributes must be a dict"),
        (('{"a": "\\u0000"}',), ExitCode.USAGE, "NUL"),
        (('{"a": 1}', "--namespace", "us"), ExitCode.NOT_FOUND, "us"),
    ],
)
def test_wrong_attributes_change_nothing(
    shop: Continuum, arguments: tuple[str, ...], code: ExitCode, word: str
) -> None:
    handle = shop.start(flows.forever, attributes={"a": 0}, namespace="eu")
    result = cli("set-attributes", handle.id, *arguments)
    assert result.exit_code == code
    assert word in result.stderr
    assert shop.get(handle.id).attributes == {"a": 0}


def test_progress_is_shown(shop: Continuum) -> None:
    handle = shop.start(parent, 0)
    assert "nothing" in cli("progress", handle.id).stdout
    with shop.running():
        eventually(handle.progress, WAIT)
    assert cli("progress", handle.id).stdout.split() == ["[b]step[/b]", '{"done":0}']
    assert document("progress", handle.id) == {"[b]step[/b]": {"done": 0}}
    assert document("show", handle.id)["progress"] == {"[b]step[/b]": {"done": 0}}
    assert '{"done":0}' in cli("show", handle.id).stdout


# ------------------------------------------------------------------ trees


@pytest.fixture
def family(shop: Continuum) -> Any:
    """Return a run with two children that wait, none of them held by anybody."""
    handle = shop.start(parent, 2)
    with shop.running():
        eventually(lambda: [str(run.state) for run in handle.tree()] == ["suspended"] * 3, WAIT)
    return handle


def test_a_tree_is_drawn(family: Any) -> None:
    text = cli("tree", family.id).stdout
    assert text.splitlines()[0].startswith("suspended cli.parent v1")
    assert [line for line in text.splitlines() if "── " in line] == text.splitlines()[1:]
    told = document("tree", family.id)
    assert (told["run"]["id"], len(told["children"]), told["cut"]) == (family.id, 2, False)
    assert told["children"][0]["children"] == []
    assert "more than these 1" in cli("tree", family.id, "--limit", "1").stdout
    assert document("tree", family.id, "--limit", "1")["cut"] is True
    assert len(document("show", family.id)["children"]) == 2
    assert "2 children" in cli("show", family.id).stdout


def test_cancel_reaches_what_is_below_only_with_cascade(shop: Continuum, family: Any) -> None:
    assert cli("cancel", family.id).stdout == "requested\n"
    told = document("cancel", family.id, "--cascade")
    assert told["requested"][0] == family.id
    assert len(told["requested"]) == 3
    with shop.running():
        eventually(lambda: all(run.ended for run in family.tree()), WAIT)
    for cascade in ((), ("--cascade",)):
        assert cli("cancel", family.id, *cascade).exit_code == ExitCode.ENDED
    assert "nothing to cancel" in cli("cancel", family.id, "--cascade").stderr


def test_terminate_with_cascade_says_first_what_it_would_end(family: Any) -> None:
    dry = cli("terminate", family.id, "--cascade")
    assert dry.stdout.count("would terminate") == 3
    assert "--execute" in dry.stdout
    assert len(document("terminate", family.id, "--cascade")["would_terminate"]) == 3
    assert not any(run.ended for run in family.tree())
    ended = document("terminate", family.id, "--cascade", "--execute")
    assert len(ended["terminated"]) == 3
    assert [str(run.state) for run in family.tree()] == ["terminated"] * 3
    for execute in ((), ("--execute",)):
        for cascade in ((), ("--cascade",)):
            result = cli("terminate", family.id, *cascade, *execute)
            assert (result.exit_code, result.stdout) == (ExitCode.ENDED, "")


def test_terminate_with_cascade_ends_what_an_ended_run_has_left(family: Any) -> None:
    family.terminate()
    alive = [run.id for run in family.tree() if not run.ended]
    assert alive
    told = document("terminate", family.id, "--cascade")
    assert [run["id"] for run in told["would_terminate"]] == alive
    assert document("terminate", family.id, "--cascade", "--execute")["terminated"] == alive


@pytest.mark.parametrize("command", [("tree",), ("progress",), ("cancel", "--cascade"), ("terminate", "--cascade")])
def test_an_unknown_run_is_not_found(shop: Continuum, command: tuple[str, ...]) -> None:
    for run_id in (NOBODY, "order-1"):
        assert cli(*command, run_id).exit_code == ExitCode.NOT_FOUND
    run_id = shop.start(flows.forever, namespace="eu").id
    assert cli(*command, run_id, "--namespace", "us").exit_code == ExitCode.NOT_FOUND


# ------------------------------------------------------------------ what is shown


def test_large_values_are_measured_only(shop: Continuum) -> None:
    handle = shop.start(flows.echo, [], note="x" * 1000)
    text = cli("show", handle.id, "--events", "--json", "--max-payload-bytes", "100").stdout
    assert "xxx" not in text
    assert '"payload_too_large"' in text
    assert "xxx" in cli("show", handle.id, "--events", "--json").stdout


def test_a_redactor_of_the_app_holds_for_its_commands(shop: Continuum, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = shop.start(flows.echo, [], note="s3cret", attributes={"token": "s3cret"})

    def hide(kind: str, name: str | None, value: Any) -> Any:
        return json.loads(json.dumps(value).replace("s3cret", "***"))

    from tests.unit.cli import shop as app

    with Continuum(URL, redact=hide) as instance:
        monkeypatch.setattr(app, "continuum", instance)
        for command in (("runs",), ("show", handle.id), ("show", handle.id, "--events"), ("tree", handle.id)):
            for result in (cli(*command), cli(*command, "--json")):
                assert result.exit_code == 0, result.output
                assert "s3cret" not in result.stdout
        assert "s3cret" not in cli("terminate", handle.id, "--json").stdout
