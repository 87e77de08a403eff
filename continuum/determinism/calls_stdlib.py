"""Here lives which parts of Python and its standard library workflow code must not call."""

from typing import Final

import msgspec

__all__ = ["STANDARD_LIBRARY", "Entry", "allow", "forbid"]


class Entry(msgspec.Struct, frozen=True):
    """Names that share a rule and a hint.

    A name stands for itself and all below it; ``name.*`` for what is below it only.

    :ivar code: of the rule; None allows what a shorter entry forbids.
    :ivar hint: what to write instead, where the rule's own hint can be beaten; ``{0}`` is the last part of the name.

    The others as in `continuum.determinism.calls.Forbidden`.
    """

    code: str | None
    names: tuple[str, ...]
    hint: str = ""
    fewer_than: int | None = None
    unless: tuple[str, ...] = ()
    dynamic: int | None = None


def forbid(
    code: str,
    names: str,
    *,
    under: str = "",
    hint: str = "",
    fewer_than: int | None = None,
    unless: tuple[str, ...] = (),
    dynamic: int | None = None,
) -> Entry:
    """Return an entry; ``names`` are separated by blanks, and stand in the module ``under``."""
    return Entry(code, _split(names, under), hint, fewer_than, unless, dynamic)


def allow(names: str, *, under: str = "") -> Entry:
    """Return an entry that allows, in a module that is forbidden."""
    return Entry(None, _split(names, under))


def _split(names: str, under: str) -> tuple[str, ...]:
    return tuple(f"{under}.{name}" if under else name for name in names.split())


_LOG: Final = "use continuum.log.{0}(...), which logs the line once, however often the code is replayed"
_LEVELS: Final = "debug info warning error critical exception log"

STANDARD_LIBRARY: Final = (
    # ------------------------------------------------------------------ CT101 clocks
    forbid("CT101", "now utcnow today", under="datetime.datetime", hint="use continuum.now()"),
    forbid("CT101", "datetime.date.today", hint="use continuum.today()"),
    forbid(
        "CT101",
        "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time"
        " thread_time_ns clock_gettime clock_gettime_ns",
        under="time",
        hint="use continuum.now(); the difference of two is the time that passed",
    ),
    forbid("CT101", "gmtime ctime asctime", under="time", hint="use continuum.now()", fewer_than=1),
    forbid("CT101", "time.strftime", hint="use continuum.now().strftime(...)", fewer_than=2),
    forbid("CT101", "os.times timeit email.utils.localtime"),
    forbid("CT101", "email.utils.formatdate", fewer_than=1),
    # ------------------------------------------------------------------ CT102 randomness
    forbid("CT102", "random", hint="use random.Random(continuum.uuid4().int).{0}(...)"),
    forbid("CT102", "random.random"),
    forbid("CT102", "random.seed", hint="use random.Random(continuum.uuid4().int), a generator of your own"),
    forbid("CT102", "random.Random", fewer_than=1, hint="give it a seed: random.Random(continuum.uuid4().int)"),
    allow("random.Random.*"),
    forbid("CT102", "secrets os.urandom os.getrandom ssl.RAND_bytes", hint="make secrets in an activity"),
    forbid("CT102", "random.SystemRandom", hint="make secrets in an activity"),
    allow("secrets.compare_digest"),
    # ------------------------------------------------------------------ CT103 unique ids
    forbid("CT103", "uuid1 uuid4 uuid6 uuid7 uuid8", under="uuid"),
    forbid("CT103", "email.utils.make_msgid", hint="build it from continuum.uuid4()"),
    # ------------------------------------------------------------------ CT104 environment
    forbid("CT104", "environ environb getenv getenvb putenv unsetenv get_exec_path getcwd getcwdb chdir", under="os"),
    forbid("CT104", "expanduser expandvars abspath relpath", under="os.path"),
    forbid("CT104", "argv orig_argv path flags prefix base_prefix exec_prefix executable", under="sys"),
    forbid("CT104", "sysconfig site importlib.metadata"),
    forbid("CT104", "locale", hint="format in an activity, or for a locale that is an input"),
    forbid(
        "CT104",
        "time.localtime time.mktime time.tzset time.tzname time.timezone time.altzone time.daylight"
        " datetime.date.fromtimestamp",
        hint="the time zone of the process is asked: use aware datetimes, such as datetime.fromtimestamp(value, UTC)",
    ),
    forbid(
        "CT104",
        "datetime.datetime.fromtimestamp",
        hint="the time zone of the process is asked: give one, datetime.fromtimestamp(value, UTC)",
        fewer_than=2,
    ),
    forbid(
        "CT104",
        "datetime.datetime.astimezone",
        hint="the time zone of the process is asked: give one, value.astimezone(UTC)",
        fewer_than=1,
    ),
    # ------------------------------------------------------------------ CT105 files
    forbid("CT105", "builtins.open"),
    forbid("CT105", "os"),
    allow(
        "fspath fsencode fsdecode PathLike strerror sep altsep extsep pathsep linesep curdir pardir devnull name error"
        " stat_result path",
        under="os",
    ),
    allow(
        "join basename dirname split splitext splitdrive splitroot normpath normcase isabs commonpath commonprefix",
        under="os.path",
    ),
    forbid(
        "CT105",
        "exists lexists isfile isdir islink ismount isjunction getsize getmtime getatime getctime samefile sameopenfile"
        " samestat realpath",
        under="os.path",
    ),
    forbid("CT105", "pathlib.Path.*"),
    allow("with_segments parse_path __truediv__ __rtruediv__ __init__ __new__", under="pathlib.Path"),
    forbid("CT104", "cwd home expanduser absolute", under="pathlib.Path"),
    forbid(
        "CT105",
        "io.open_code io.FileIO io.BufferedReader io.BufferedWriter io.BufferedRandom io.TextIOWrapper.* glob.glob"
        " glob.iglob shutil tempfile fileinput filecmp linecache mmap zipfile tarfile gzip.open gzip.GzipFile bz2.open"
        " bz2.BZ2File lzma.open lzma.LZMAFile shelve dbm dbm.dumb dbm.gnu dbm.ndbm fcntl importlib.resources netrc"
        " configparser.ConfigParser.read configparser.RawConfigParser.read mailbox",
    ),
    # ------------------------------------------------------------------ CT106 network
    forbid(
        "CT106",
        "socket socketserver ssl select selectors http.client http.server http.cookiejar urllib.request"
        " urllib.robotparser ftplib smtplib poplib imaplib nntplib telnetlib xmlrpc.client xmlrpc.server sqlite3"
        " asyncore asynchat wsgiref.simple_server webbrowser syslog",
    ),
    allow("inet_aton inet_ntoa inet_pton inet_ntop ntohl ntohs htonl htons", under="socket"),
    forbid("CT106", "open_connection open_unix_connection start_server start_unix_server", under="asyncio"),
    forbid(
        "CT106",
        "create_connection create_server create_unix_connection create_unix_server create_datagram_endpoint"
        " getaddrinfo getnameinfo sock_recv sock_sendall sock_connect sock_accept add_reader add_writer sendfile",
        under="asyncio.AbstractEventLoop",
    ),
    # ------------------------------------------------------------------ CT107 processes
    forbid(
        "CT107",
        "system popen fork forkpty vfork kill killpg abort _exit wait waitpid wait3 wait4 waitid waitstatus_to_exitcode"
        " nice setsid setpgid posix_spawn posix_spawnp spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe"
        " execl execle execlp execlpe execv execve execvp execvpe startfile",
        under="os",
    ),
    forbid("CT107", "subprocess multiprocessing pty atexit concurrent.futures.ProcessPoolExecutor"),
    forbid(
        "CT107", "signal", hint="signals of the operating system belong to the dispatcher; see continuum.wait_signal()"
    ),
    forbid("CT107", "asyncio.create_subprocess_exec asyncio.create_subprocess_shell"),
    forbid(
        "CT107",
        "subprocess_exec subprocess_shell add_signal_handler remove_signal_handler",
        under="asyncio.AbstractEventLoop",
    ),
    # ------------------------------------------------------------------ CT108 threads
    forbid("CT108", "threading concurrent.futures asyncio.run_coroutine_threadsafe asyncio.wrap_future"),
    forbid(
        "CT108",
        "Lock RLock Event Condition Semaphore BoundedSemaphore Barrier",
        under="threading",
        hint="use asyncio.{0}, which is recorded and blocks no other run",
    ),
    forbid(
        "CT108", "queue", hint="use asyncio.Queue between tasks of the run, continuum.wait_signal() for the outside"
    ),
    forbid("CT108", "asyncio.to_thread", hint="blocking work belongs in an activity"),
    forbid(
        "CT108",
        "run_in_executor set_default_executor call_soon_threadsafe",
        under="asyncio.AbstractEventLoop",
        hint="blocking work belongs in an activity",
    ),
    # ------------------------------------------------------------------ CT109 blocking sleep
    forbid("CT109", "time.sleep"),
    forbid("CT109", "threading.Timer sched signal.alarm signal.setitimer signal.pause signal.sigtimedwait"),
    # ------------------------------------------------------------------ CT110 console
    forbid("CT110", "builtins.print", unless=("file",), hint="use continuum.log.info(...), which is silent on replay"),
    forbid("CT110", "pprint.pprint pprint.pp", unless=("stream",), hint="use continuum.log and pprint.pformat(...)"),
    forbid(
        "CT110",
        "traceback.print_exc traceback.print_exception traceback.print_stack traceback.print_tb traceback.print_last",
        unless=("file",),
        hint="use continuum.log.exception(...)",
    ),
    forbid("CT110", "input", under="builtins", hint="take input by a signal: continuum.wait_signal()"),
    forbid("CT110", "sys.stdin getpass.getpass", hint="take input by a signal: continuum.wait_signal()"),
    forbid("CT110", "sys.stdout sys.stderr sys.__stdout__ sys.__stderr__ sys.__stdin__ sys.displayhook sys.excepthook"),
    forbid("CT110", "builtins.breakpoint builtins.help pdb cmd.Cmd curses readline"),
    forbid(
        "CT110",
        "warn warn_explicit showwarning simplefilter filterwarnings resetwarnings catch_warnings",
        under="warnings",
        hint="use continuum.log.warning(...)",
    ),
    # ------------------------------------------------------------------ CT111 logging
    forbid("CT111", "logging"),
    forbid("CT111", _LEVELS, under="logging", hint=_LOG),
    forbid("CT111", _LEVELS, under="logging.Logger", hint=_LOG),
    forbid("CT111", _LEVELS, under="logging.LoggerAdapter", hint=_LOG),
    forbid(
        "CT111", "logging.warn logging.Logger.warn logging.LoggerAdapter.warn", hint="use continuum.log.warning(...)"
    ),
    forbid(
        "CT111",
        "logging.basicConfig logging.config logging.disable logging.addLevelName logging.captureWarnings"
        " logging.setLoggerClass logging.setLogRecordFactory logging.Logger.setLevel logging.Logger.addHandler"
        " logging.Logger.removeHandler logging.Logger.addFilter logging.Logger.removeFilter",
        hint="configure logging where the process starts; continuum.log takes extra= for fields of a line",
    ),
    # Getting one is harmless, using it is not.
    allow("logging.getLogger logging.getLevelName logging.LogRecord logging.Logger.getChild"),
    # ------------------------------------------------------------------ CT112 host identity
    forbid("CT112", "platform pwd grp resource uuid.getnode getpass.getuser socket.gethostname socket.getfqdn"),
    forbid(
        "CT112",
        "getpid getppid getpgid getpgrp getsid getuid geteuid getgid getegid getgroups getlogin uname cpu_count"
        " process_cpu_count getloadavg sched_getaffinity sysconf confstr ctermid ttyname get_terminal_size",
        under="os",
    ),
    forbid("CT112", "platform version version_info hexversion implementation getwindowsversion winver", under="sys"),
    forbid(
        "CT112",
        "current_thread main_thread get_ident get_native_id active_count enumerate",
        under="threading",
    ),
    forbid("CT112", "multiprocessing.current_process multiprocessing.cpu_count multiprocessing.parent_process"),
    # ------------------------------------------------------------------ CT113 code made at run time
    forbid("CT113", "eval exec compile __import__ globals", under="builtins"),
    forbid("CT113", "importlib runpy pkgutil code codeop types.FunctionType types.CodeType sys.modules imp zipimport"),
    forbid("CT113", "operator.methodcaller", dynamic=0, hint="write the method's name as a literal"),
    # ------------------------------------------------------------------ CT114 answers of the process
    forbid("CT114", "builtins.hash", hint="use hashlib over the data's bytes: hashes of texts are salted"),
    forbid("CT114", "builtins.id", hint="use a key of the data itself: addresses differ"),
    forbid("CT114", "gc weakref tracemalloc"),
    forbid("CT114", "getsizeof getrefcount getallocatedblocks _current_frames hash_info", under="sys"),
    # ------------------------------------------------------------------ CT116 the raw event loop
    forbid(
        "CT116",
        "run Runner new_event_loop set_event_loop get_event_loop_policy set_event_loop_policy SelectorEventLoop"
        " ProactorEventLoop EventLoop",
        under="asyncio",
    ),
    forbid("CT116", "run_forever run_until_complete stop close", under="asyncio.AbstractEventLoop"),
)
