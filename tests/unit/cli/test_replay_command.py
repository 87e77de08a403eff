"""`continuum replay` and `continuum dump`: histories leave the database, and meet the code that is loaded here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from continuum import Continuum
from continuum.cli import main
from continuum.journal.memory.journal import MemoryJournal
from tests.support.eventually import eventually
from tests.unit.cli import rehearsed
from tests.unit.cli.rehearsed import URL


@pytest.fixture
def shop() -> Iterator[Continuum]:
    """Yield a running instance on the app's store, empty."""
    MemoryJournal.forget(URL.removeprefix("memory://"))
    with Continuum(URL, concurrency=2) as instance, instance.running():
        yield instance
    rehearsed.continuum.close()
    rehearsed.hiding.close()


def invoke(*arguments: str, app: str = "tests.unit.cli.rehearsed") -> Result:
    return CliRunner().invoke(main, ["-A", app, *arguments])


def parsed(*arguments: str, code: int = 0) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def waiting(shop: Continuum, name: str = "o1") -> str:
    """Return a run that has paid, and waits."""
    handle = shop.start(rehearsed.order, name)
    eventually(lambda: shop.get(handle.id).state == "suspended")
    return handle.id


# -- what fits


def test_a_run_that_fits_says_what_it_waits_for(shop: Continuum) -> None:
    run_id = waiting(shop)
    result = invoke("replay", run_id)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"✓ rehearsed.order v1 {run_id}: 2 commands as recorded; it waits for signal 'go'\n"


def test_a_run_that_has_ended_fits_too(shop: Continuum) -> None:
    run_id = waiting(shop)
    shop.signal(run_id, "go")
    assert shop.handle(run_id).result(timeout=10) == "o1 shipped"
    assert "3 commands as recorded; it is completed" in invoke("replay", run_id).stdout


def test_as_json_it_is_for_machines(shop: Continuum) -> None:
    run_id = waiting(shop)
    found = parsed("replay", run_id)
    assert (found["ok"], found["counts"]) == (True, {"fits": 1})
    [run] = found["runs"]
    assert {name: run[name] for name in ("id", "workflow", "version", "verdict", "matched", "recorded", "state")} == {
        "id": run_id,
        "workflow": "rehearsed.order",
        "version": 1,
        "verdict": "fits",
        "matched": 2,
        "recorded": 2,
        "state": "suspended",
    }
    assert (run["waits_for"], run["drift"], run["reason"]) == (["signal 'go'"], None, None)


def test_a_replay_changes_nothing(shop: Continuum) -> None:
    run_id = waiting(shop)
    before = shop.get(run_id)
    invoke("replay", run_id, "--flow", "rehearsed.dearer")
    assert shop.get(run_id) == before


# -- what does not


def test_drift_is_shown_with_what_lies_around_it_and_exits_with_one(shop: Continuum) -> None:
    run_id = waiting(shop)
    result = invoke("replay", run_id, "--flow", "rehearsed.dearer")
    assert result.exit_code == 1, result.output
    first, *lines = result.stdout.splitlines()
    assert first == f"✗ rehearsed.order v1 {run_id}: drift after 0 commands"
    assert lines[0].startswith('    ✗    0  activity rehearsed.pay with ["o1",10]  tests/unit/cli/rehearsed.py:')
    assert lines[1].startswith('      the code: activity rehearsed.pay with ["o1",11]  tests/unit/cli/rehearsed.py:')
    assert lines[2] == "        arguments[1]: 10 → 11"
    assert lines[3] == "         1  a wait for signal 'go'"
    assert lines[4].startswith("    Its arguments were changed")
    assert "patched()" in lines[4]


def test_drift_as_json_has_both_sides(shop: Continuum) -> None:
    run_id = waiting(shop)
    [run] = parsed("replay", run_id, "--flow", "rehearsed.dearer", code=1)["runs"]
    assert (run["verdict"], run["drift"]["command"]) == ("drift", 0)
    assert run["drift"]["difference"] == ["arguments[1]: 10 → 11"]
    assert run["drift"]["recorded_location"] != run["drift"]["location"]
    assert run["drift"]["at"]["name"] == "rehearsed.pay"
    assert run["reason"].startswith("ReplayDriftError: command 0: the history has")


def test_a_run_whose_code_is_not_loaded_says_so(shop: Continuum) -> None:
    run_id = waiting(shop)
    result = invoke("replay", run_id, "--flow", "rehearsed.unheard_of")
    assert result.exit_code == 1
    assert "no code: no code is loaded here for workflow 'rehearsed.unheard_of'" in result.stdout


# -- files


def test_a_history_that_was_dumped_is_replayed_from_its_file(shop: Continuum, tmp_path: Path) -> None:
    run_id = waiting(shop)
    file = tmp_path / "run.json"
    result = invoke("dump", run_id, str(file))
    assert (result.exit_code, result.stdout) == (0, f"5 events of {run_id} written to {file}\n")
    shop.terminate(run_id)
    result = invoke("replay", str(file))
    assert result.exit_code == 0, result.output
    assert f"{run_id} ({file}): 2 commands as recorded; it waits for signal 'go'" in result.stdout
    assert invoke("replay", str(file), "--flow", "rehearsed.dearer").exit_code == 1


def test_a_dump_without_a_file_goes_to_the_standard_output(shop: Continuum) -> None:
    run_id = waiting(shop)
    result = invoke("dump", run_id)
    found = json.loads(result.stdout)
    assert (found["format"], found["run_id"], len(found["events"])) == (1, run_id, 5)
    assert found["state"] == "suspended"


def test_what_is_no_run_and_no_file_is_refused(shop: Continuum, tmp_path: Path) -> None:
    result = invoke("replay", "nonsense")
    assert result.exit_code == 2
    assert "nonsense is no id of a run, and there is no such file" in result.stderr
    assert invoke("replay", "018f0000-0000-7000-8000-000000000001").exit_code == 3
    assert invoke("replay").exit_code == 2
    result = invoke("replay", str(tmp_path))
    assert result.exit_code == 2
    assert "is a directory: name the files in it" in result.stderr
    assert shop.search().runs == []
    result = invoke("dump", waiting(shop), str(tmp_path / "there" / "file"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_file_that_is_no_history_is_unreadable(shop: Continuum, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")
    result = invoke("replay", str(file))
    assert result.exit_code == 1
    assert "unreadable: this is not a history" in result.stdout
    assert shop.search().runs == []


def test_a_history_of_a_newer_release_says_so_and_nothing_else(shop: Continuum, tmp_path: Path) -> None:
    file = tmp_path / "newer.json"
    invoke("dump", waiting(shop), str(file))
    file.write_text(file.read_text().replace('"signal_awaited"', '"moon_rose"'))
    result = invoke("replay", str(file))
    assert result.exit_code == 1
    assert "newer release (this one does not know 'moon_rose'" in result.stdout
    assert "the code:" not in result.stdout


# -- an instance that redacts


def test_an_instance_that_redacts_dumps_nothing_unless_it_is_told_to(shop: Continuum) -> None:
    run_id = waiting(shop)
    app = "tests.unit.cli.rehearsed:hiding"
    result = invoke("dump", run_id, app=app)
    assert result.exit_code == 2
    assert "a redacted history does not replay" in result.stderr
    assert '"o1"' in invoke("dump", run_id, "--raw", app=app).stdout


def test_an_instance_that_redacts_shows_no_payload_of_a_drift(shop: Continuum) -> None:
    run_id = waiting(shop)
    for extra in ((), ("--json",)):
        result = invoke("replay", run_id, "--flow", "rehearsed.dearer", *extra, app="tests.unit.cli.rehearsed:hiding")
        assert result.exit_code == 1
        assert "hidden" in result.stdout
        assert "o1" not in result.stdout


# -- all that are open


def test_all_open_runs_are_replayed_for_a_deploy(shop: Continuum) -> None:
    first, second = waiting(shop), waiting(shop, "o2")
    ended = waiting(shop, "o3")
    shop.terminate(ended)
    marked = shop.start(rehearsed.marked, "m").id
    eventually(lambda: shop.get(marked).state == "suspended")
    result = invoke("replay", "--open")
    assert (result.exit_code, result.stdout) == (0, "3 runs: 3 fits\n"), result.output
    assert "waits for signal 'greeting'" in invoke("replay", "--open", "--all").stdout
    found = parsed("replay", "--open", "rehearsed.order")
    assert [run["id"] for run in found["runs"]] == [first, second]
    result = invoke("replay", "--open", "rehearsed.order", "--flow", "rehearsed.dearer")
    assert result.exit_code == 1
    assert result.stdout.endswith("2 runs: 2 drift\n")
    assert result.stdout.count("arguments[1]: 10 → 11") == 2


def test_without_open_runs_there_is_nothing_to_say(shop: Continuum) -> None:
    result = invoke("replay", "--open")
    assert (result.exit_code, result.stdout) == (0, "0 runs\n")
    assert shop.search().runs == []


# -- patches


def test_each_patch_says_how_open_runs_answer_it(shop: Continuum) -> None:
    for number in range(2):
        marked = shop.start(rehearsed.marked, f"m{number}").id
    eventually(lambda: shop.get(marked).state == "suspended")
    found = parsed("versions", "patches")
    [one] = [one for one in found["patches"] if one["workflow"] == "rehearsed.marked"]
    [site] = one.pop("sites")
    assert site.pop("line") > rehearsed.marked.function.__code__.co_firstlineno
    assert site == {"file": "tests/unit/cli/rehearsed.py", "function": "marked"}
    assert one.pop("taken") + one.pop("coming") == 2
    assert one == {
        "workflow": "rehearsed.marked",
        "version": 1,
        "patch": "greet",
        "removable": True,
        "refused": 0,
        "unknown": 0,
    }
    line = next(line for line in invoke("versions", "patches").stdout.splitlines() if "rehearsed.marked v1" in line)
    assert line.split()[:8] == ["rehearsed.marked", "v1", "greet", "2", "0", "0", "can", "be"]


def test_patches_that_may_not_go_are_left_out_on_request(shop: Continuum) -> None:
    marked = shop.start(rehearsed.marked, "m").id
    eventually(lambda: shop.get(marked).state == "suspended")
    journal: Any = shop.journal
    journal._store.runs[marked].version_hash = "of a source that nobody has"
    journal._store.events[marked][2:3] = []  # the marker
    line = next(line for line in invoke("versions", "patches").stdout.splitlines() if "rehearsed.marked v1" in line)
    assert line.split()[:8] == ["rehearsed.marked", "v1", "greet", "0", "0", "1", "in", "use"]
    assert "rehearsed.marked" not in invoke("versions", "patches", "--removable").stdout


@pytest.mark.parametrize("command", [("versions", "patches"), ("replay", "--open")])
def test_whose_code_it_is_must_be_said(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["--database-url", URL, *command])
    assert result.exit_code == 2
    assert "-A yourapp" in result.stderr
