"""Commands of one place: what the terminal in the browser does itself, and what needs the machine where it is typed."""

from __future__ import annotations

from retirecluster.domain.commands.kinds import COMMAND, DURATION, FILE, INTEGER, ROLE, TASK, TEXT
from retirecluster.domain.commands.model import (
    ANY,
    EVERYWHERE,
    HERE,
    MAYBE,
    SERVED,
    SHELL,
    Argument,
    Command,
    Option,
)
from retirecluster.domain.commands.task_options import task_options

THEMES = ("matrix", "amber", "blue", "contrast")
SHELLS = ("bash", "zsh", "fish")
CONFIG_FILE = "config.json"

TERMINAL_COMMANDS = (
    Command(
        ("help",),
        "the commands, or all about one",
        (Argument("words", COMMAND, "a command, as devices or devices drain", ANY, "COMMAND"),),
        shows=False,
        connects=False,
        doors=EVERYWHERE,
        examples=("help", "help devices", "help tasks submit"),
    ),
    Command(("clear",), "empty the screen", shows=False, doors=HERE),
    Command(("exit",), "close the terminal", aliases=("quit",), shows=False, doors=HERE),
    Command(("history",), "the lines that were typed", shows=False, doors=HERE),
    Command(
        ("echo",),
        "say it again",
        (Argument("words", TEXT, "anything", ANY, "WORD"),),
        shows=False,
        doors=SERVED,
        examples=("echo hello",),
    ),
    Command(
        ("set",),
        "settings of the terminal; without a name all of them",
        (
            Argument("name", TEXT, "which", MAYBE, choices=("format", "theme", "colour")),
            Argument("value", TEXT, "what it is from now on", MAYBE),
        ),
        shows=False,
        doors=HERE,
        examples=("set", "set format json"),
    ),
    Command(
        ("theme",),
        "the colours of the terminal",
        (Argument("name", TEXT, "which", MAYBE, choices=THEMES),),
        shows=False,
        doors=HERE,
        examples=("theme amber",),
    ),
)

_FOLDER = Option(("--data-dir",), FILE, "data folder of the worker", metavar="DIR", doors=SHELL)
_DRY_RUN = Option(("--dry-run",), doc="only show what would be done", doors=SHELL)
_MAIN_FOLDER = Option(("--data-dir",), FILE, "data folder of the main", metavar="DIR", doors=SHELL)

CALL = Command(
    ("call",),
    "call a Python function on a device",
    (
        Argument("function", TEXT, "such as math:factorial", metavar="MODULE:FUNCTION"),
        Argument("arguments", TEXT, "as JSON, or text; NAME=VALUE by name", ANY, "ARGUMENT"),
    ),
    (Option(("--wait-timeout",), DURATION, "wait no longer than this", metavar="TIME"), *task_options()),
    doors=SHELL,
    details="Call a function of a module that can be imported here on a device, and print its value.",
    examples=(
        "call math:factorial 20",
        "call mymodule:resize photo.jpg width=640",
        "call --min-memory-gb 4 mymodule:train '[1, 2, 3]'",
    ),
    notes="""\
An argument that is JSON (20, true, [1, 2], "text") is that value, any other one is a string; NAME=VALUE goes by
name. Prints the value: a string as it is, else its repr; with --format json as JSON. The exit code is 1 where the
function raised an exception, which is shown with its traceback on the device.
""",
)
GET = Command(
    ("get",),
    "download the files that a task left",
    (
        Argument("task", TASK, "task id, the start of one, `last`"),
        Argument("names", TEXT, "which files; all that it left", ANY, "NAME"),
    ),
    (
        Option(("-o", "--output-dir"), FILE, "where to (here)", name="folder", metavar="DIR", default="."),
        Option(("--force",), doc="replace files that are there"),
        Option(("--inputs",), doc="the files that it brought instead"),
    ),
    doors=SHELL,
    shows=False,
    details="Download the files that a task left, or those NAMES of them (patterns such as '*.png' will do). "
    "What is there already is left alone; an interrupted download goes on where it stopped.",
    examples=("get last", "get last '*.png' -o pictures"),
)
UP = Command(
    ("up",),
    "a main node and workers on this machine, until Ctrl+C",
    (),
    (
        Option(("--workers",), INTEGER, "local workers (2)", metavar="N", default=2),
        Option(("--data-dir",), FILE, "data folder of the main; the workers' are inside", metavar="DIR"),
        Option(("--host",), TEXT, "address to listen on (127.0.0.1)", metavar="ADDRESS"),
        Option(("--port",), INTEGER, "port for workers (8080)", metavar="PORT"),
        Option(("--web-port",), INTEGER, "port of the dashboard and the API (5000)", metavar="PORT"),
    ),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Start a main node with its dashboard and workers on this machine, and stay until Ctrl+C.",
)
DEMO = Command(
    ("demo",),
    "a small cluster on this machine, doing real work",
    (),
    (
        Option(("--input",), FILE, "folder of text files (default: Python's standard library)", metavar="FOLDER"),
        Option(("--workers",), INTEGER, "local workers (3)", metavar="N", default=3),
        Option(("--keep",), doc="leave the cluster up afterwards, until Ctrl+C"),
        Option(("--port",), INTEGER, "port for workers (8080, or a free one)", metavar="PORT"),
        Option(("--web-port",), INTEGER, "port of the dashboard (5000, or a free one)", metavar="PORT"),
    ),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Start a main node and workers with made-up profiles as processes on this machine, in a temporary "
    "folder; index the words of a folder of text files on them; do the same in one process; compare.",
)
JOIN = Command(
    ("join",),
    "have this device work for a cluster, from now on and after each start",
    (Argument("address", TEXT, "a join string; or HOST or HOST:PORT of the main; auto: find it", metavar="ADDRESS"),),
    (
        Option(("--name",), TEXT, "the device's id in the cluster (made from the host's name)", metavar="ID"),
        Option(("--role",), ROLE, "worker, compute, mobile, storage, nas, or one of your own (guessed)"),
        Option(("--slots",), INTEGER, "tasks at the same time (the number of processors)", metavar="N"),
        Option(("--tag",), TEXT, "a word that tasks can ask for; may be repeated", metavar="WORD", repeated=True),
        Option(("--wake-on-lan",), doc="let the main wake this device when it sleeps"),
        _FOLDER,
        _DRY_RUN,
        Option(("--foreground",), doc="run here until Ctrl+C, and install nothing", either="how"),
        Option(("--systemd",), doc="install a unit: of the system as root, else of the user", either="how"),
        Option(("--termux-boot",), doc="install a boot script for Termux:Boot", either="how"),
        Option(("--force",), doc="overwrite what this command has not written"),
    ),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Check that the main can be reached, write worker.json, and have this device start the worker: by "
    "systemd, by Termux:Boot, or (where neither is) here until Ctrl+C. Everything is shown before it is written.",
    examples=("join auto", "join nas.local --role storage --tag usb"),
)
HEALTH = Command(
    ("health",),
    "whether the main works, for Docker and scripts: exit code 0 or 1",
    (),
    (Option(("--ready",), doc="whether it takes in tasks, too: also 1 where the disk is full, or it is late"),),
    doors=SHELL,
    shows=False,
    details="Ask GET /health (or /ready) of the main. Needs no token. Answers within seconds, or the exit code is 1.",
    examples=("health", "health --ready --server nas:5000"),
)
LEAVE = Command(
    ("leave",),
    "undo join: this device works for the cluster no more",
    (),
    (_FOLDER, _DRY_RUN),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Stop the worker, remove what starts it and worker.json, and forget the cluster. What somebody "
    "has changed since is kept.",
)
BACKUP = Command(
    ("backup",),
    "copy the database of the main on this machine, also while it runs",
    (),
    (
        _MAIN_FOLDER,
        Option(("--output",), FILE, "where to; default: a new file in backups/ of the data folder", metavar="FILE"),
        Option(("--without-files",), doc="leave out the contents of tasks' files"),
    ),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Copy the database of a main on this machine to one file, as of one moment; the main may run. "
    "The copy is checked and on disk when this ends. Tasks' files go to FILE.files beside it, as links where that "
    "is the same disk.",
)
RESTORE = Command(
    ("restore",),
    "put a backup in place of the database of a main that is stopped",
    (Argument("file", FILE, "what retire-cluster backup wrote", metavar="FILE"),),
    (
        Option(("--without-files",), doc="leave the contents of tasks' files as they are"),
        Option(("--data-dir",), FILE, "data folder of the main", metavar="DIR", required=True),
    ),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Put a backup in place of the database of a main that is stopped. The replaced database is kept "
    "beside it. Tasks that had not ended when the backup was made are queued again, those that may be started "
    "once at most are held or lost; attempts granted before are void. Tasks' files come back from FILE.files, each "
    "checked by its hash.",
)
INIT = Command(
    ("init",),
    "write a configuration file with all defaults",
    (Argument("kind", TEXT, "of which daemon", choices=("main", "worker")),),
    (
        Option(("--path",), FILE, f"where; default: {CONFIG_FILE} in the data folder", metavar="FILE"),
        Option(("--force",), doc="overwrite what is there"),
    ),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Write the default configuration of a daemon as JSON, for editing. Start the daemon with it: "
    "twistd -n retire-main --config FILE",
    examples=("init main",),
)
VERSION = Command(("version",), "the version of this program", doors=SHELL, shows=False, connects=False)
COMPLETION = Command(
    ("completion",),
    "the completion of this command, for a shell",
    (Argument("shell", TEXT, "which shell", choices=SHELLS),),
    doors=SHELL,
    shows=False,
    connects=False,
    details="Print a script that completes commands, options, and the ids of devices and tasks.",
    examples=("completion bash",),
    notes="""\
bash:  source <(retire-cluster completion bash)                           in ~/.bashrc
zsh:   source <(retire-cluster completion zsh)                            in ~/.zshrc, after compinit
fish:  retire-cluster completion fish > ~/.config/fish/completions/retire-cluster.fish
""",
)
