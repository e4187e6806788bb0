"""Owns what a guest may ask its host for: the screen as a picture, keys, and the pointer.

A request is one line on the guest's request port, the answer is one line, `ok` or `error REASON`:

    screenshot NAME.png                     the screen into the exchange folder
    key KEY[-KEY...]                        press and release together, e.g. ctrl-alt-f2 (QEMU's key names)
    key KEY down|up                         one edge of one key
    mouse-move X Y                          to a position in pixels of the start mode
    mouse-button left|middle|right down|up
    mouse-wheel up|down                     one notch
"""

import inspect
import json
import os
import re
import subprocess

# The range of QEMU's absolute axes (INPUT_EVENT_ABS_MAX).
ABS_MAX = 0x7FFF
SCREENSHOT_TIMEOUT_S = 30
QMP_TIMEOUT_S = 30


class RequestError(Exception):
    """The request was not carried out; the text is for the guest."""


class Qmp:
    """QEMU's control socket, one command at a time."""

    def __init__(self, sock):
        sock.settimeout(QMP_TIMEOUT_S)
        self._lines = sock.makefile("rwb", buffering=0)
        self._ready = False

    def execute(self, command, **arguments):
        if not self._ready:
            self._lines.readline()  # the greeting
            self._ready = True
            self.execute("qmp_capabilities")
        message = {"execute": command, "arguments": arguments}
        self._lines.write(json.dumps(message).encode() + b"\n")
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise RequestError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
        raise RequestError("QEMU has gone")


class Requests:
    """Carries requests out. `display` is the X display that shows the guest's screen and the screen's geometry in it,
    `mode` the screen's (width, height)."""

    def __init__(self, qmp, display, mode, exchange):
        self._qmp = qmp
        self._display, self._geometry = display
        self._mode = mode
        self._exchange = exchange
        self._verbs = {
            "screenshot": self._screenshot,
            "key": self._key,
            "mouse-move": self._mouse_move,
            "mouse-button": self._mouse_button,
            "mouse-wheel": self._mouse_wheel,
        }

    def answer(self, line):
        """The answer to one request line."""
        verb, *arguments = line.split() or [""]
        try:
            if verb not in self._verbs:
                raise RequestError(f"no such request: {verb}")
            try:
                inspect.signature(self._verbs[verb]).bind(*arguments)
            except TypeError as error:
                raise RequestError(f"{verb}: {error}") from None
            self._verbs[verb](*arguments)
        except (RequestError, OSError, ValueError, subprocess.SubprocessError) as error:
            return "error " + " ".join(str(error).split())
        return "ok"

    def _screenshot(self, name):
        if not re.fullmatch(r"[\w-][\w.-]*\.png", name):
            raise RequestError(f"not the plain name of a .png file: {name}")
        taken = subprocess.run(
            ["import", "-silent", "-window", "root", "-crop", self._geometry, "+repage", f"png:{self._exchange / name}"],
            env={**os.environ, "DISPLAY": self._display},
            timeout=SCREENSHOT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if taken.returncode != 0:
            raise RequestError(taken.stderr or "import failed")

    def _key(self, keys, edge=None):
        names = [{"type": "qcode", "data": key} for key in keys.split("-")]
        if edge is None:
            self._qmp.execute("send-key", keys=names)
        else:
            self._send(*({"type": "key", "data": {"key": name, "down": is_down(edge)}} for name in names))

    def _mouse_move(self, x, y):
        self._send(
            *(
                {"type": "abs", "data": {"axis": axis, "value": int(at) * ABS_MAX // (size - 1)}}
                for axis, at, size in zip("xy", (x, y), self._mode)
            )
        )

    def _mouse_button(self, button, edge):
        self._send({"type": "btn", "data": {"button": button, "down": is_down(edge)}})

    def _mouse_wheel(self, direction):
        for down in (True, False):
            self._send({"type": "btn", "data": {"button": f"wheel-{direction}", "down": down}})

    def _send(self, *events):
        self._qmp.execute("input-send-event", events=list(events))


def is_down(edge):
    if edge not in ("down", "up"):
        raise RequestError(f"neither down nor up: {edge}")
    return edge == "down"
