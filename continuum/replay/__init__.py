"""Here lives replay: history in, decision out. It thinks, and stores nothing.

Importing it makes some of asyncio's functions reproducible when, and only when, they are called in a workflow: see
`ordering`.
"""

from continuum.replay import ordering

ordering.install()
