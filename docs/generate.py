"""Here live the reference pages that are made of the code: the settings, the commands, the rules of the scanner.

``python docs/generate.py`` writes them; a test compares what is committed with what this would write.
"""
# ruff: noqa: INP001 - a script beside the pages it writes, not a package
# ruff: noqa: E501 - a row of a table is one line

import ast
import inspect
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, fields
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Final

import click

from continuum import config
from continuum.cli import main as continuum_command
from continuum.cli.dispatcher import main as dispatcher_command
from continuum.cli.shell import ExitCode
from continuum.config import Settings
from continuum.determinism.calls import ENTRIES
from continuum.determinism.rules import FAMILIES, RULES

__all__ = ["PAGES", "cli_page", "configuration_page", "determinism_page"]

REFERENCE: Final = Path(__file__).resolve().parent / "reference"

CONFIGURATION_INTRO: Final = """\
# Configuration

<!-- Written by `python docs/generate.py` from `continuum/config.py`. Edit that, then run it. -->

Every option is a keyword of `Continuum(...)`; `url` is also its first argument. The configuration is checked when the
instance is made, and frozen. A wrong value or an unknown name raises `ConfigError`, which says what to write instead.

```python run
from datetime import timedelta

from continuum import Continuum

continuum = Continuum(
    "memory://",
    namespace="eu",
    concurrency=8,
    queues={"default": 8, "payments": 2},
    lease_ttl=timedelta(seconds=60),
)
assert continuum.settings.concurrency == 8
```

Besides these, `Continuum(...)` takes `engine=`, a SQLAlchemy engine whose connections it uses instead of its own.
`continuum-dispatcher` can override some of them from its [command line](cli.md).

"""

ENVIRONMENT: Final = """
## Environment

| variable | read by | meaning |
|---|---|---|
| `CONTINUUM_DATABASE_URL` | every process without a `url` | the database: `postgresql://user:password@host:port/name` |
| `CONTINUUM_APP` | `continuum`, `continuum-dispatcher` | the app, as `-A` would say |
| `CONTINUUM_TEST_DATABASE_URL` | Continuum's own tests | a server in which they make databases; they never look at the first |
| `CONTINUUM_CRASH_AT`, `CONTINUUM_FREEZE_AT` | crash tests | a [probe](../explanation/protocol.md#what-a-crash-leaves) at which the process kills or stops itself |
"""

CLI_INTRO: Final = """\
# Command line

<!-- Written by `python docs/generate.py` from the commands themselves. -->

Two commands are installed: `continuum` asks and orders, `continuum-dispatcher` works. Both find your instance by
`-A`, as Celery finds an app: a module (`myapp`), a submodule (`myapp.flows`), or a name in one (`myapp:continuum`).
In a package, `continuum`, `celery`, `app`, `flows` and `workflows` are looked into as well.

`--json` prints one JSON document instead of a table. The options `-A`, `--database-url`, `--schema` and `--json`
may stand before or after the name of the command. Without `-A` the tables are looked for in the schema `public`: an app
with `Continuum(schema=...)` is named by `-A`, or its schema by `--schema`.
"""

DETERMINISM_INTRO: Final = """\
# Rules of the scanner

<!-- Written by `python docs/generate.py` from `continuum/determinism/rules.py` and its tables of calls. -->

The scanner reads the code of every workflow when it is declared, with all helpers it calls, and refuses what a replay
could not repeat. [Write deterministic code](../how_to/write_deterministic_code.md) says why and what to do;
this page lists the rules. An **error** refuses the declaration, a **warning** is a `DeterminismWarning`, and what is
**off** is looked for only if you ask.

```python run
from continuum import configure_checks

configure_checks(
    severities={"CT309": "off", "CT4": "warning"},  # a code, or the beginning of codes
    trusted_modules=["myapp.pricing"],  # neither followed nor distrusted
)
```

Call it before modules with workflows are imported. `CONTINUUM_CHECKS=warning` (or `off`) in the environment caps every
severity of a process. In code, a comment with a reason suppresses a finding on its line, or, on the line of a `def`, in
the whole function: `# continuum: allow[CT101] only shown to people`.
"""

DETERMINISM_CALLS: Final = """
## What CT1 forbids

A name stands for itself and all below it, and a longer name beats a shorter one. Exceptions and constants of a forbidden
module are allowed: `except requests.ConnectionError`, `socket.AF_INET`. Names are those of the objects: however a module
or function is imported or called, it is found, and a thing of your own that has such a name is not.

"""


def configuration_page() -> str:
    """Return the text of ``reference/configuration.md``."""
    page = StringIO()
    page.write(CONFIGURATION_INTRO)
    page.write("| option | type | default | meaning |\n|---|---|---|---|\n")
    reasons = _reasons()
    for spec in fields(Settings):
        if spec.default is MISSING:
            message = f"Settings.{spec.name} has no default; say here how it is to be shown"
            raise RuntimeError(message)
        kind = spec.type if isinstance(spec.type, str) else inspect.formatannotation(spec.type)
        kind = kind.replace("collections.abc.", "").replace("datetime.", "").replace("|", "\\|")
        meaning = reasons[spec.name].replace("|", "\\|")
        page.write(f"| `{spec.name}` | `{kind}` | {_default(spec.default)} | {meaning} |\n")
    page.write(ENVIRONMENT)
    return page.getvalue()


def cli_page() -> str:
    """Return the text of ``reference/cli.md``."""
    page = StringIO()
    page.write(CLI_INTRO)
    page.write("\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
    meanings = _exit_meanings()
    page.writelines(f"| {int(code)} | {meanings[int(code)]} |\n" for code in ExitCode)
    for name, command in _commands("continuum", continuum_command):
        _write_command(page, name, command)
    _write_command(page, "continuum-dispatcher", dispatcher_command)
    return page.getvalue()


def determinism_page() -> str:
    """Return the text of ``reference/determinism.md``."""
    page = StringIO()
    page.write(DETERMINISM_INTRO)
    for family, title in FAMILIES.items():
        page.write(
            f"\n## {family}xx: {title}\n\n| code | name | default | what is wrong | instead |\n|---|---|---|---|---|\n"
        )
        for code, rule in RULES.items():
            if code.startswith(family):
                cells = (f'<a id="{code.lower()}"></a>`{code}`', rule.name, rule.severity, rule.summary, rule.hint)
                page.write(f"| {' | '.join(cells)} |\n")
    page.write(DETERMINISM_CALLS)
    page.write("| rule | names |\n|---|---|\n")
    for code, rule in [*RULES.items(), (None, None)]:
        entries = [entry for entry in ENTRIES if entry.code == code]
        names = sorted({name for entry in entries for name in entry.names}, key=lambda name: (name.lower(), name))
        if names:
            told = ", ".join(f"`{name.removeprefix('builtins.')}`" for name in names)
            page.write(f"| {f'{code} {rule.name}' if rule else 'allowed'} | {told} |\n")
    return page.getvalue()


PAGES: Final = {
    REFERENCE / "configuration.md": configuration_page,
    REFERENCE / "cli.md": cli_page,
    REFERENCE / "determinism.md": determinism_page,
}


# ------------------------------------------------------------------ settings


def _reasons() -> dict[str, str]:
    """Map each setting to what its source says: ``:ivar`` in the docstring, or the comment above it."""
    source = inspect.getsource(config)
    tree = ast.parse(source)
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Settings.__name__)
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {
        name: " ".join(text.split())
        for name, text in re.findall(r":ivar (\w+): (.*?)(?=\n\s*:ivar |\Z)", inspect.getdoc(Settings) or "", re.DOTALL)
    }
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines: list[str] = []
            row = node.lineno - 1
            while row in comments:
                lines.insert(0, comments[row])
                row -= 1
            said = [found[node.target.id]] if node.target.id in found else []
            if lines:
                said.append(" ".join(lines))
            found[node.target.id] = " ".join(_sentence(part) for part in said)
    return {name: text.replace("``", "`") for name, text in found.items()}


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def _default(value: Any) -> str:
    match value:
        case None:
            return "none"
        case ():
            return "empty"
        case timedelta():
            return _duration(value)
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return f"`{value}`"


def _duration(value: timedelta) -> str:
    return f"{value.total_seconds():g} s"


# ------------------------------------------------------------------ commands


def _exit_meanings() -> dict[int, str]:
    text = " ".join((continuum_command.epilog or "").split())
    told = text.partition("Exit codes:")[2].rstrip(".")
    meanings = {int(code): meaning for code, meaning in re.findall(r"(\d) ([^,]+)", told)}
    missing = [code.name for code in ExitCode if int(code) not in meanings]
    if missing:
        message = f"`continuum --help` does not tell the exit codes {missing}"
        raise RuntimeError(message)
    return meanings


def _commands(prefix: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(f"{prefix} {name}", command)
        elif not command.hidden:
            yield f"{prefix} {name}", command


def _write_command(page: StringIO, name: str, command: click.Command) -> None:
    context = click.Context(command, info_name=name)
    page.write(
        f"\n## `{name}`\n\n{_prose(command)}\n\n```\n{name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    )
    rows = list(_options(command, context))
    if rows:
        page.write("\n| option | meaning |\n|---|---|\n")
        page.writelines(f"| `{option}` | {meaning} |\n" for option, meaning in rows)


def _prose(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").replace("\b\n", "").replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _options(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    shared = {"app", "database_url", "schema", "json"}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or (parameter.name in shared and command is not dispatcher_command):
            continue
        option, meaning = record
        yield option.replace("|", "\\|"), " ".join(meaning.split()).replace("|", "\\|")


if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(make(), encoding="utf-8")
        sys.stdout.write(f"{path.name}\n")
