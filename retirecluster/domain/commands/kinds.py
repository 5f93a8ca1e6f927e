"""What arguments and options may be."""

from __future__ import annotations

import re

from retirecluster.domain.commands.model import Kind
from retirecluster.domain.units import parse_duration_s

OFF = "off"
MOST = 1000
"""Rows that one question can ask for."""
_SIGNAL = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def _duration(text: str) -> float:
    return parse_duration_s(text)


def _interval(text: str) -> float:
    return max(0.1, parse_duration_s(text))


def _duration_or_off(text: str) -> float | str:
    if text.lower() == OFF:
        return OFF
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from None


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,18}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _count(text: str) -> int:
    number = _integer(text)
    if not 1 <= number <= MOST:
        raise ValueError(f"{text!r} is not 1 to {MOST}")
    return number


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})([eE][+-]?\d{1,3})?", text):
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _label(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE, as team=kitchen")
    return text


DEVICE = Kind("device", "device id, the start of one, or a row of the last listing", lookup="devices")
DEVICES = Kind("device", "device ids, starts of them, `all`, or rows of the last listing as 1-10", lookup="devices")
TASK = Kind("task", "task id, the start of one, `last`, or a row of the last listing", lookup="tasks")
TASKS = Kind("task", "task ids, starts of them, `last`, `all`, or rows of the last listing as 1-10", lookup="tasks")
TASK_TYPE = Kind("type", "task type", lookup="types")
ROLE = Kind("role", "worker, compute, mobile, storage, nas, or one of your own", lookup="roles")
SIGNAL = Kind("name", "name of a signal", lookup="signals")
PROFILE = Kind("profile", "name of a profile", lookup="profiles")
COMMAND = Kind("command", "name of a command", lookup="commands")
DURATION = Kind("time", "90, 250ms, 2m30s or 1.5h", _duration)
INTERVAL = Kind("time", "90, 250ms, 2m30s or 1.5h", _interval)
DURATION_OR_OFF = Kind("time", "30m, 2h, or off", _duration_or_off, lookup="off")
COUNT = Kind("n", f"whole number, 1 to {MOST}", _count)
INTEGER = Kind("n", "whole number", _integer)
NUMBER = Kind("n", "number", _number)
TEXT = Kind("text", "text")
LABEL = Kind("label", "NAME=VALUE", _label)
FILE = Kind("file", "file on the machine where it is typed", lookup="files")
"""Completed by the shell."""
