import io
import sys
import warnings
from pprint import pformat, pprint


async def bad_output(value):
    print(value)  # !CT110
    sys.stdout.write(value)  # !CT110
    sys.stderr.write(value)  # !CT110
    warnings.warn(value)  # !CT110
    pprint(value)  # !CT110


async def bad_input():
    name = input("name?")  # !CT110
    return name, sys.stdin.readline()  # !CT110


async def bad_reference(values):
    for _ in map(print, values):  # !CT110
        pass


async def good_text(value):
    buffer = io.StringIO()
    print(value, file=buffer)
    return buffer.getvalue(), pformat(value)


async def good_own_print(printer, value):
    printer.print(value)
    print = printer.show
    print(value)
