"""Finding the line of workflow code."""

from continuum.replay.locations import _shortened, caller


def test_the_caller_is_the_innermost_frame_that_is_no_plumbing():
    def inner():
        return caller()

    path, _, line = inner().rpartition(":")
    assert path.endswith("test_locations.py")
    assert int(line) == inner.__code__.co_firstlineno + 1


def test_paths_are_as_long_as_their_module_says():
    assert _shortened("/srv/app/myapp/flows.py", "myapp.flows") == "myapp/flows.py"
    assert _shortened("/srv/app/main.py", "__main__") == "main.py"
    assert _shortened("/srv/app/myapp/__init__.py", "myapp") == "myapp/__init__.py"
    assert _shortened("C:\\app\\myapp\\flows.py", "myapp.flows") == "myapp/flows.py"
    assert _shortened("<stdin>", "a.b") == "<stdin>"
