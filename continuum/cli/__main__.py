"""Here lives ``python -m continuum.cli``: the command ``continuum``, where its script is not on the PATH."""

from continuum.cli import main

if __name__ == "__main__":
    main(prog_name="continuum")
