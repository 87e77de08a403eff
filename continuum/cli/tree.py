"""Here lives ``continuum tree``."""

from typing import Any

import click
from rich.tree import Tree

from continuum.cli.render import run_json, state_text
from continuum.cli.runs import database_time
from continuum.cli.shell import Shell, command_options, pass_shell
from continuum.cli.terminal import plain
from continuum.client.findings import say_duration
from continuum.client.showing import Screen
from continuum.client.trees import MAX_TREE, RunTree

__all__ = ["tree_command"]


@click.command("tree")
@click.argument("run_id", metavar="RUN")
@click.option("--namespace", help="The run must be in this namespace.")
@click.option("--limit", type=click.IntRange(1, MAX_TREE), default=1_000, show_default=True, help="Runs below it.")
@command_options
@pass_shell
def tree_command(shell: Shell, *, run_id: str, namespace: str | None, limit: int) -> None:
    """Show RUN with the runs that it has started, and those that they have started."""
    instance = shell.instance
    tree = instance.tree(run_id, namespace=namespace, limit=limit)
    if shell.as_json:
        shell.emit({**_tree_json(tree, Screen(instance.settings.redact)), "cut": tree.cut})
        return
    now = database_time(instance)

    def line(one: RunTree) -> str:
        run = one.run
        state = state_text(run.state)
        took = f"took {say_duration(run.duration)}" if run.duration else f"{say_duration(now - run.created_at)} old"
        return f"[{state.style}]{state.plain}[/] {plain(f'{run.workflow} v{run.version}')} {run.id} [dim]{took}[/]"

    def grow(branch: Tree, children: tuple[RunTree, ...]) -> Tree:
        for child in children:
            grow(branch.add(line(child)), child.children)
        return branch

    shell.say(grow(Tree(line(tree)), tree.children))
    if tree.cut:
        shell.say(f"[yellow]There are more than these {limit:,} below it: --limit shows up to {MAX_TREE:,}.[/]")


def _tree_json(tree: RunTree, screen: Screen) -> dict[str, Any]:
    children = [_tree_json(child, screen) for child in tree.children]
    return {"run": run_json(screen.run(tree.run)), "children": children}
