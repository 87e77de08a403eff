"""The pages under docs/ say what is so: links lead somewhere, lists are complete, generated pages are current."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import continuum
from continuum import errors
from continuum.cli import main as continuum_command
from continuum.cli.dispatcher import main as dispatcher_command
from continuum.model.events import EventType
from continuum.model.runs import RunState
from continuum.replay.refusals import RefusingLoop

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READMES = [path for path in (ROOT / "README.md", ROOT / "README.zh-CN.md") if path.exists()]

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *(`{3,}).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
EXPLICIT_ANCHOR = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return FENCE.sub("", text)


def anchors_of(path: Path) -> set[str]:
    text = without_code(path.read_text(encoding="utf-8"))
    found: set[str] = set(EXPLICIT_ANCHOR.findall(text))
    for heading in HEADING.findall(text):
        # As code hosts make them: lower case, punctuation out, spaces to hyphens.
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=name_of)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and (path.suffix != ".md" or anchor not in anchors_of(path))):
            dead.append(target)
    assert not dead, f"{name_of(page)} links to what does not exist: {dead}"


def test_the_map_leads_to_every_page() -> None:
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in LINK.findall((DOCS / "index.md").read_text())}
    lost = [name_of(page) for page in PAGES if page.name != "index.md" and page.resolve() not in linked]
    assert not lost, f"docs/index.md does not link {lost}"


# -- what is generated ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["configuration.md", "cli.md", "determinism.md"])
def test_the_generated_reference_is_current(page: str) -> None:
    made = {path.name: make for path, make in generator().PAGES.items()}
    assert read(f"reference/{page}") == made[page](), "run `python docs/generate.py`"


# -- what must be complete -----------------------------------------------------------------------


def test_every_public_name_is_documented() -> None:
    told = "".join(read(f"reference/{page}.md") for page in ("api", "activities", "effects", "errors"))
    missing = [name for name in continuum.__all__ if not re.search(rf"\b{name}\b", told)]
    assert not missing, f"not on the reference pages: {missing}"


def test_every_public_call_of_an_instance_is_documented() -> None:
    told = read("reference/api.md")
    calls = {name for name in dir(continuum.Continuum) if not name.startswith("_")}
    calls |= {name for name in dir(continuum.RunHandle) if not name.startswith("_")}
    missing = [name for name in sorted(calls) if not re.search(rf"\b{name}\b", told)]
    assert not missing, f"not in docs/reference/api.md: {missing}"


def test_every_run_state_is_explained() -> None:
    told = read("reference/api.md")
    assert [state for state in RunState if f"| `{state}` |" not in told] == []


def test_every_event_type_is_explained() -> None:
    told = read("reference/events.md")
    assert [kind for kind in EventType if f"| `{kind}` |" not in told] == []


def test_every_error_is_in_the_tree_and_in_a_table() -> None:
    told = read("reference/errors.md")
    tree = told[told.index("```") : told.rindex("```")]
    assert [name for name in errors.__all__ if not re.search(rf"\b{name}\b", tree)] == []
    leaves = [name for name in errors.__all__ if not getattr(errors, name).__subclasses__()]
    assert [name for name in leaves if f"`{name}" not in without_code(told)] == []


def test_the_tree_of_errors_is_the_one_in_the_code() -> None:
    def names(text: str) -> list[tuple[int, str]]:
        lines = [re.match(r"^ *([ │├└─]*)([A-Z]\w+)", line) for line in text.splitlines()]
        return [(len(line[1].lstrip(" ")), line[2]) for line in lines if line and line[2] in errors.__all__]

    documentation = errors.__doc__
    assert documentation is not None
    page = read("reference/errors.md")
    assert [name for _, name in names(page[page.index("```") : page.rindex("```")])] == [
        name for _, name in names(documentation.partition("Every error")[0])
    ]


def test_every_refused_call_of_the_loop_is_named() -> None:
    told = read("reference/asyncio.md")
    refused = [
        name for name, value in vars(RefusingLoop).items() if "BlockingCall" in (getattr(value, "__doc__", None) or "")
    ]
    assert len(refused) > 20
    # Families stand for their members.
    families = {
        r"sock_\w+|sendfile|create_(datagram|unix)\w+|create_server|connect_accepted_socket|start_tls|getnameinfo": (
            "all of `sock_*`, TLS, datagrams"
        ),
        r"connect_(read|write)_pipe|subprocess_\w+": "create_subprocess_exec",
        r"remove_(reader|writer)": "and their kin",
    }
    missing = [
        name
        for name in refused
        if not re.search(rf"\b{name}\b", told)
        and not any(re.fullmatch(family, name) and words in told for family, words in families.items())
    ]
    assert not missing, f"not in docs/reference/asyncio.md: {missing}"


def test_every_probe_is_in_the_table_of_crashes_and_no_other() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "continuum").rglob("*.py")))
    passed = set(re.findall(r"\bprobe\(\s*\"([a-z_.]+)\"", code))
    told = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", read("explanation/protocol.md"), re.MULTILINE))
    assert told == passed


# -- commands ------------------------------------------------------------------------------------


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each `continuum …` that a page shows, in code blocks and in inline code."""
    blocks = [match[0] for match in FENCE.finditer(text) if not re.match(r" *`+python", match[0])]
    spans = re.findall(r"`([^`\n]+)`", without_code(text))
    for line in [*"\n".join(blocks).splitlines(), *spans]:
        for shown in re.findall(r"(?:^|[\s$(/])(continuum(?:-dispatcher)? [^|;&)#`]*)", line):
            yield shown.split()


def problem_with(words: list[str]) -> str | None:
    command: click.Command = dispatcher_command if words[0] == "continuum-dispatcher" else continuum_command
    shared = {option for parameter in continuum_command.params for option in parameter.opts} | {"--help", "-h"}
    takes_value = False
    for word in words[1:]:
        if takes_value:
            takes_value = False
        elif word.startswith("-"):
            name = word.partition("=")[0]
            option = next((one for one in [*command.params, *continuum_command.params] if name in one.opts), None)
            if option is None and name not in shared:
                return f"{command.name} has no option {name}"
            takes_value = isinstance(option, click.Option) and not option.is_flag and "=" not in word
        elif isinstance(command, click.Group):
            if not re.fullmatch(r"[a-z]+", word):
                return None  # prose: `continuum …`, or a placeholder
            found = command.get_command(click.Context(command), word)
            if found is None:
                return f"there is no command `{command.name} {word}`"
            command = found
    return None


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=name_of)
def test_every_command_shown_exists_and_has_the_options_shown(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = [(" ".join(words), problem) for words in commands_in(text) if (problem := problem_with(words))]
    assert not wrong, f"{name_of(page)} shows commands that do not exist: {wrong}"


def test_the_search_for_commands_finds_some() -> None:
    shown = [words for page in PAGES for words in commands_in(page.read_text(encoding="utf-8"))]
    assert ["continuum", "migrate"] in shown
    assert len(shown) > 20
    assert problem_with(["continuum", "fly"]) is not None
    assert problem_with(["continuum", "runs", "--wings"]) is not None


# -- prose ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_no_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"(?:/root/|/home/|/work/|/Users/)\S*", text)
    assert not found, f"{name_of(page)} names paths of one machine: {found}"
