"""Finding the line of workflow code."""

from continuum.replay.locations import _place, caller


def test_the_caller_is_the_innermost_frame_that_is_no_plumbing():
    def inner():
        return caller()

    path, _, line = inner().rpartition(":")
    assert path.endswith("test_locations.py")
    assert int(line) == inner.__code__.co_firstlineno + 1


def test_paths_are_as_long_as_their_module_says():
    assert _place("/srv/app/myapp/flows.py", "myapp.flows") == "myapp/flows.py"
    assert _place("/srv/app/main.py", "__main__") == "main.py"
    assert _place("/srv/app/myapp/__init__.py", "myapp") == "myapp/__init__.py"
    assert _place("C:\\app\\myapp\\flows.py", "myapp.flows") == "myapp/flows.py"
    assert _place("<stdin>", "a.b") == "<stdin>"


def test_equal_functions_of_two_files_are_told_apart():
    source = "def f():\n    return caller()\n"
    found = []
    for name in ("one", "two"):
        space = {"caller": caller, "__name__": name}
        exec(compile(source, f"/srv/{name}.py", "exec"), space)
        found.append(space["f"]())
    assert found == ["one.py:2", "two.py:2"]
