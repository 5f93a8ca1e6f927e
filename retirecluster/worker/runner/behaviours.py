"""What the built-in task types do. Runs in the forked child; heavy imports stay inside the functions.

Each behaviour takes the payload and the context, and returns the exit code. Payloads were checked by the
worker, so required fields are there and have the right types.
"""

from __future__ import annotations

import builtins
import os
import sys
import time

from retirecluster.worker.runner.limits import ERROR_CHARS

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from retirecluster.worker.runner.child import TaskContext

    Payload = dict[str, Any]
    Behaviour = Callable[[Payload, TaskContext], int]

_HERE = os.path.dirname(__file__)


def echo(payload: Payload, context: TaskContext) -> int:
    message = payload.get("message", "")
    if not isinstance(message, str):
        import json

        message = json.dumps(message, ensure_ascii=False)
    context.give_value(message)
    return 0


def sleep(payload: Payload, context: TaskContext) -> int:
    duration_s = next(payload[name] for name in ("duration_s", "duration", "seconds") if name in payload)
    begin = time.monotonic()
    while (left := duration_s - (time.monotonic() - begin)) > 0:
        time.sleep(min(left, 1.0))
        context.report_progress(round(min(100.0, 100 * (time.monotonic() - begin) / duration_s), 1))
    context.give_value(f"slept {duration_s:g} s")
    return 0


def system_info(payload: Payload, context: TaskContext) -> int:
    node, system, architecture = _uname()
    facts: dict[str, Any] = {
        "device_id": context.device_id,
        "hostname": node,
        "platform": sys.platform,
        "system": system,
        "architecture": architecture,
        "python_version": sys.version.split()[0],
        "cpu_cores": os.cpu_count(),
    }
    for name, probe in (("load_average", _load), ("memory_total", _memory), ("disk", _disk), ("uptime", _uptime)):
        try:
            facts[name] = probe()
        except (OSError, ValueError, IndexError, AttributeError):
            continue  # what cannot be known here is left out
    context.give_value(facts)
    return 0


def _uname() -> tuple[str, str, str]:
    """The host's name, its system with the release, its architecture."""
    if hasattr(os, "uname"):
        said = os.uname()
        return said.nodename, f"{said.sysname} {said.release}", said.machine
    import platform

    found = platform.uname()
    return found.node, f"{found.system} {found.release}", found.machine


def _load() -> list[float]:
    return [round(each, 2) for each in os.getloadavg()]


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _disk() -> dict[str, int]:
    disk = os.statvfs(".")
    return {"total": disk.f_frsize * disk.f_blocks, "free": disk.f_frsize * disk.f_bavail}


def _uptime() -> float:
    with open("/proc/uptime") as file:
        return float(file.read().split()[0])


def python_call(payload: Payload, context: TaskContext) -> int:
    from retirecluster.worker.runner.python_call import call

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return context.end_python(0 if call(payload, context) else 1)


def python_eval(payload: Payload, context: TaskContext) -> int:
    names = {"__builtins__": builtins, **(payload.get("environment") or {})}
    try:
        code = compile(payload["expression"].strip(), "<expression>", "eval")
    except (SyntaxError, ValueError) as error:
        context.give_error("exception", last_lines(error), retryable=False)
        return 1
    value = eval(code, names)
    text = value if type(value) is str else repr(value)
    if not context.forked:
        context.give_value(text)
    context.end_python()
    return 0


def python_script(payload: Payload, context: TaskContext) -> int:
    _take_stdin(payload)
    name = payload.get("file") or "script.py"
    sys.argv = [name, *(payload.get("arguments") or ())]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main = type(sys)("__main__")
    sys.modules["__main__"] = main
    # What the site module would have given, had it been loaded.
    for leave in ("exit", "quit"):
        setattr(builtins, leave, sys.exit)
    source: str | bytes = payload.get("source") or ""
    if "file" in payload:
        path = os.path.join(context.scratch, name)
        with open(path, "rb") as file:
            source = file.read()
        sys.path.insert(0, os.path.dirname(path))
        main.__file__ = path
    code = _run_script(source, name, vars(main), context)
    return context.end_python(code)


def _run_script(source: str | bytes, name: str, names: dict[str, Any], context: TaskContext) -> int:
    try:
        code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        _show(error, source, name)
        context.give_error("exception", last_lines(error), retryable=False)
        return 1
    try:
        exec(code, names)
    except SystemExit as leaving:
        return _exit_code(leaving.code)
    except BaseException as error:
        if not context.forked:
            context.note_limit(error)
        _show(error, source, name)
        return 1
    return 0


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _show(error: BaseException, source: str | bytes, name: str) -> None:
    """Print the traceback as Python would for a script of that name and text."""
    error.__traceback__ = _own_frames_off(error.__traceback__)
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, error.__traceback__)
        return
    try:
        import linecache
        import traceback

        text = source if isinstance(source, str) else source.decode("utf-8", "replace")
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        traceback.print_exception(type(error), error, error.__traceback__)
    except (OSError, MemoryError):  # at its limit of files or memory, not even that can be loaded
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))


def _own_frames_off(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    return trace


def last_lines(error: BaseException) -> str:
    """The traceback's last lines, as many as an error message may have."""
    try:
        import traceback
    except (OSError, MemoryError):
        return f"{type(error).__name__}: {error}"[-ERROR_CHARS:]
    trace = _own_frames_off(error.__traceback__)
    lines = "".join(traceback.format_exception(type(error), error, trace)).strip().splitlines()
    return "\n".join(lines[-20:])[-ERROR_CHARS:]


def end_python(code: int = 0) -> int:
    """What the interpreter does at its end: wait for threads, run exit handlers, flush."""
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit = sys.modules.get("atexit")
    if atexit is not None:
        atexit._run_exitfuncs()
    return flush_output(code)


def flush_output(code: int) -> int:
    """Flush what Python still holds of the output; the exit code, which a failure changes."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            code = code or 120  # what the interpreter itself says when it cannot flush
    return code


def _take_stdin(payload: Payload) -> None:
    """Standard input from the payload, through a file without a name: no pipe that somebody has to feed."""
    text = payload.get("stdin")
    if not text:
        return
    path = ".stdin"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    data = memoryview(text.encode("utf-8", "replace"))
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    os.close(fd)


def command(payload: Payload, context: TaskContext) -> int:
    _take_stdin(payload)
    try:
        argv = command_argv(payload)
    except ValueError as error:
        context.give_error("payload", f"the command cannot be split: {error}", retryable=False)
        return 127
    import signal

    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores both; other programs expect them
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        context.give_error("exec", f"{argv[0]!r} cannot be run: {reason}", retryable=False)
    return 127


def command_argv(payload: Payload) -> list[str]:
    """The words of the command. Raises ValueError where its text cannot be split."""
    asked = payload["argv"] if payload.get("argv") is not None else payload["command"]
    if payload.get("shell"):
        import shlex

        return ["sh", "-c", asked if isinstance(asked, str) else shlex.join(asked)]
    if isinstance(asked, str):
        import shlex

        asked = shlex.split(asked)
    if not asked:
        raise ValueError("it is empty")
    return list(asked)


def http_request(payload: Payload, context: TaskContext) -> int:
    from retirecluster.worker.runner import http_request as client

    try:
        context.give_value(client.request(payload, context.options, context.timeout_s))
    except client.Refused as error:
        context.give_error("refused", str(error), retryable=False)
        return 1
    except (OSError, client.HTTPException, ValueError) as error:
        context.give_error("http", f"{type(error).__name__}: {error}")
        return 1
    return 0


def run_entry_point(target: str, payload: Payload, context: TaskContext) -> int:
    """Run a task type of another package: `target` is `module:attribute`, as its entry point says."""
    from retirecluster.worker.runner.python_call import find_function

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    value = find_function(target)(payload, context)
    if not context.forked:
        context.give_value(value)
    return context.end_python()


BEHAVIOURS: dict[str, Behaviour] = {
    "echo": echo,
    "sleep": sleep,
    "system_info": system_info,
    "python_eval": python_eval,
    "python_script": python_script,
    "python_call": python_call,
    "command": command,
    "http_request": http_request,
}
NEEDS_NO_SCRATCH = frozenset({"echo", "sleep", "http_request", "system_info"})
"""Types that cannot write files: no folder is made for them."""
