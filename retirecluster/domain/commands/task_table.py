"""Commands about tasks."""

from __future__ import annotations

from retirecluster.domain.commands.device_table import YES
from retirecluster.domain.commands.kinds import DEVICE, DURATION, FILE, INTEGER, LABEL, TASK, TASK_TYPE, TASKS, TEXT
from retirecluster.domain.commands.model import ANY, MAYBE, SHELL, SOME, SUBMIT, Argument, Command, Group, Option
from retirecluster.domain.commands.task_options import task_options
from retirecluster.domain.lifecycle import FINAL, WAITING, State

DEFAULT_LIMIT = 50
ALL_MEANS: dict[str, frozenset[State]] = {
    "cancel": frozenset(State) - FINAL,
    "retry": FINAL - {State.COMPLETED},
    "hold": WAITING - {State.HELD},
    "release": frozenset({State.HELD}),
    "wait": frozenset(State) - FINAL,
}
"""The states that `all` stands for, by what is to be done."""
SELECTOR_HELP = "task id, the start of one, `last`"
ONE_TASK = Argument("task", TASK, SELECTOR_HELP)
SOME_TASKS = Argument("tasks", TASKS, f"{SELECTOR_HELP} or `all`", SOME, "task")
WHICH = (
    Option(("--status",), TEXT, "only in this state", choices=tuple(str(state) for state in State)),
    Option(("--type",), TASK_TYPE, "only of this type", metavar="TYPE"),
    Option(("--device",), DEVICE, "only on this device", metavar="ID"),
    Option(("--label",), LABEL, "only with this label", metavar="NAME=VALUE"),
    Option(("--limit",), INTEGER, "how many (50); 0 for all", metavar="N", default=DEFAULT_LIMIT),
)
SUBMIT_NOTES = """\
In a shell, many tasks from a program: generate-tasks | retire-cluster submit -

The exit code with --wait: 0 if the task completed, its own exit code if it failed with one (1 to 125), 6 if
its time ran out, else 1. With several tasks: 0 if all completed, else 1.
"""
_SUBMIT_EXAMPLES = (
    "submit -- uname -a",
    'submit --wait --type python_eval --payload \'{"expression": "2 ** 64"}\'',
    "submit --role mobile --timeout 2m -- ./convert.sh holiday.mp4",
    "submit --output '*.mp4' -- ffmpeg -i film.mov film.mp4",
)


def _one(name: str, summary: str) -> Command:
    return Command(("tasks", name), summary, (ONE_TASK,), examples=(f"tasks {name} last",))


def _act(name: str, summary: str) -> Command:
    examples = (f"tasks {name} last", f"tasks {name} all --yes")
    return Command(("tasks", name), summary, (SOME_TASKS,), (YES,), role=SUBMIT, examples=examples)


def _submit(*path: str) -> Command:
    return Command(
        path,
        "submit a command or tasks",
        (Argument("input", TEXT, "read one JSON task a line from standard input", ANY, "-"),),
        (
            Option(("--type",), TASK_TYPE, "task type; `tasks types` lists them", name="task_type", metavar="TYPE"),
            Option(("--payload",), TEXT, "what the type takes, as a JSON object, or @FILE", metavar="JSON"),
            Option(
                ("--file",),
                FILE,
                "JSON file: one task, a list of tasks; or one task a line",
                metavar="FILE",
                doors=SHELL,
            ),
            Option(("--stdin",), FILE, "standard input of the command; - for this one's", metavar="FILE", doors=SHELL),
            *task_options(),
            Option(("--wait",), doc="wait for the end, print the output, exit as the task did", heading="waiting"),
            Option(
                ("--wait-timeout",),
                DURATION,
                "wait no longer than this",
                metavar="TIME",
                heading="waiting",
                doors=SHELL,
            ),
        ),
        role=SUBMIT,
        examples=_SUBMIT_EXAMPLES if path == ("submit",) else ("tasks submit -- uname -a",),
        details="Submit a command after --, one task by its type, or (in a shell) many from a file or standard input. "
        "Prints the task ids, one a line.",
        notes=SUBMIT_NOTES,
        rest="COMMAND [ARGUMENT ...]",
        usages=(
            "[options] -- COMMAND [ARGUMENT ...]",
            "[options] --type TYPE [--payload JSON]",
            "[options] --file FILE | -",
        ),
    )


GROUPS = (Group("tasks", "look at tasks and act on them", "list", ("task",)),)
COMMANDS = (
    _submit("submit"),
    Command(
        ("tasks", "list"),
        "the newest tasks",
        (),
        WHICH,
        aliases=("ls",),
        examples=("tasks list --status failed", "tasks --limit 200 | grep render | wc -l"),
    ),
    Command(
        ("tasks", "query"),
        "the newest tasks with a text in their id, name, type, device or reason",
        (Argument("text", TEXT, "small and capital letters are the same", MAYBE),),
        WHICH,
        examples=("tasks query film --status running",),
    ),
    _one("show", "everything about one task"),
    _one("why", "why a task waits, device by device"),
    _one("result", "the result of a task that has ended"),
    _one("files", "the files that a task brought and left"),
    Command(
        ("tasks", "logs"),
        "what a task printed",
        (ONE_TASK,),
        (Option(("-f", "--follow"), doc="go on until the task has ended"),),
        aliases=("output",),
        examples=("tasks logs last", "tasks logs -f last"),
    ),
    Command(
        ("tasks", "wait"),
        "wait for the end of tasks",
        (SOME_TASKS,),
        (Option(("--timeout",), DURATION, "wait no longer than this", metavar="TIME", doors=SHELL),),
        examples=("tasks wait last", "tasks wait all"),
    ),
    _act("cancel", "cancel tasks, also running ones"),
    _act("retry", "run tasks that ended without success once more"),
    _act("hold", "keep waiting tasks back"),
    _act("release", "let held tasks go on"),
    Command(
        ("tasks", "monitor"),
        "what happens to tasks, or to one",
        (Argument("task", TASK, SELECTOR_HELP, MAYBE),),
        examples=("tasks monitor", "tasks monitor last"),
    ),
    Command(("tasks", "metrics"), "counts and mean run times by task type"),
    Command(("tasks", "types"), "the task types and what they take"),
    _submit("tasks", "submit"),
)
