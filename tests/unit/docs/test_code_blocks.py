"""The code blocks of docs/ run.

- ```` ```python run ````: the blocks of a page are one script.
- ```` ```python file=shop.py ```` and ```` ```sh run ````: files and shell lines of a page are one session, in order.

Everything runs in a directory of its own with a migrated database in ``CONTINUUM_DATABASE_URL``; other blocks are only
compiled. A page that starts processes gets them killed at the end.
"""

import ast
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]+)\n(?P<body>.*?)^(?P=indent)``` *$", re.MULTILINE | re.DOTALL)
PATIENCE = 90


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "docs").as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    text = page.read_text(encoding="utf-8")
    return [(match["info"].strip(), textwrap.dedent(match["body"])) for match in BLOCK.finditer(text)]


def script_of(page: Path) -> str:
    return "\n".join(body for info, body in blocks(page) if info == "python run")


def session_of(page: Path) -> str:
    """Return a shell script that writes the page's files and runs its lines."""
    lines = []
    for info, body in blocks(page):
        if info.startswith("python file="):
            lines.append(f"cat > {info.partition('=')[2]} <<'END_OF_FILE'\n{body}END_OF_FILE")
        elif info == "sh run":
            lines.append(body)
    return "\n".join(lines)


WITH_SCRIPT = [page for page in PAGES if script_of(page)]
WITH_SESSION = [page for page in PAGES if session_of(page)]


def environment(directory: Path, **more: str) -> dict[str, str]:
    """Return the environment of a reader: the two commands in PATH, the package importable, no settings of ours."""
    bin_directory = directory / "bin"
    bin_directory.mkdir()
    for name, module in (("continuum", "continuum.cli"), ("continuum-dispatcher", "continuum.cli.dispatcher")):
        command = bin_directory / name
        command.write_text(
            f'#!{sys.executable}\nimport sys\nfrom {module} import main\nsys.exit(main(prog_name="{name}"))\n'
        )
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    python = bin_directory / "python"  # not a link: an environment is found beside the name it was called by
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONTINUUM_")}
    path = os.pathsep.join([str(bin_directory), kept.get("PATH", "")])
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def run(command: list[str], directory: Path, env: dict[str, str]) -> None:
    """Run a command and everything it starts; nothing of it is left afterwards."""
    with (directory / "output.txt").open("w+b") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code: int | None = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if _is_alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        told = output.read().decode(errors="replace")
    assert code == 0, f"it {'took too long' if code is None else f'ended with {code}'}:\n{told[-8000:]}"


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("page", WITH_SCRIPT, ids=name_of)
def test_the_python_blocks_of_a_page_run(page: Path, tmp_path: Path, database_url: str) -> None:
    script = tmp_path / "page.py"
    script.write_text(script_of(page), encoding="utf-8")
    env = environment(tmp_path, CONTINUUM_DATABASE_URL=database_url)
    run([sys.executable, "-W", "error", script.name], tmp_path, env)


@pytest.mark.timeout(PATIENCE + 30)
@pytest.mark.parametrize("page", WITH_SESSION, ids=name_of)
def test_a_page_can_be_followed_in_a_shell(page: Path, open_directory: Path) -> None:
    script = open_directory / "session.sh"
    script.write_text(f"set -e\n{session_of(page)}", encoding="utf-8")
    directory = open_directory / "reader"
    directory.mkdir(mode=0o755)
    run(["bash", str(script)], directory, environment(open_directory))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_other_python_blocks_are_python(page: Path) -> None:
    for info, body in blocks(page):
        if info.split()[0] == "python":
            where = f"{name_of(page)}: {body.splitlines()[0]}"
            compile(body, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)  # fragments of workflows


def test_every_page_with_python_is_run_or_says_why() -> None:
    """A block that only looks like code goes stale; each page may have as many as are listed here."""
    shown_only = {
        "how_to/run_in_celery.md": 2,  # beat's settings, which need a beat; a Django project
        "reference/effects.md": 1,  # a fragment of a workflow
    }
    found = {name_of(page): sum(info == "python" for info, _ in blocks(page)) for page in PAGES}
    assert {page: count for page, count in found.items() if count} == shown_only
