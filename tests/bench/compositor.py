"""Owns a compositor under test in the guest: how each is started and ended, and what the kernel says of it while it runs.
Each has a control group of its own, so that CPU time and wake-ups are those of all its processes and threads.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
SESSION = HERE.parent / "vm" / "guest-session"
FOLDER = pathlib.Path("/run/fencepost/bench")
CGROUP = pathlib.Path("/sys/fs/cgroup/command")
EVENTS = pathlib.Path("/sys/kernel/tracing/events")
START_S = 60
END_S = 5

WESTON = """
[core]
idle-time=0
[shell]
panel-position=none
background-color=0xff000000
animation=none
startup-animation=none
"""

SWAY = """
xwayland disable
default_border none
default_floating_border none
for_window [app_id=".*"] floating enable
"""

HYPRLAND = """
hl.monitor({ output = "", mode = "preferred", position = "auto", scale = 1 })
hl.config({
    general = { gaps_in = 0, gaps_out = 0, border_size = 0 },
    decoration = { rounding = 0, shadow = { enabled = false }, blur = { enabled = false } },
    animations = { enabled = false },
    misc = { force_default_wallpaper = 0, disable_hyprland_logo = true },
})
hl.window_rule({ name = "float", match = { class = ".*" }, float = true })
"""

VIRTUAL = "on a virtual output: it takes displays from logind only"
DBUS = ("dbus-run-session", "--")

# The command, the command that tells the version, configuration files, and what has to be said beside its figures. Windows
# float and have no decoration, and there is no animation and no panel, so that all have the same to do.
PEERS = {
    "fencepost": (("fencepost", "run", "--backend", "kms"), ("fencepost", "--version"), {}, ""),
    "weston": (("weston", "--backend=drm", f"--config={FOLDER}/weston.ini"), ("weston", "--version"), {"weston.ini": WESTON}, ""),
    "sway": (("sway", "--config", f"{FOLDER}/sway.config"), ("sway", "--version"), {"sway.config": SWAY}, ""),
    "labwc": (("labwc",), ("labwc", "--version"), {}, ""),
    "hyprland": (
        ("Hyprland", "--i-am-really-stupid", "--config", f"{FOLDER}/hyprland.lua"),
        ("Hyprland", "--version"),
        {"hyprland.lua": HYPRLAND},
        "",
    ),
    "mutter": (
        (*DBUS, "mutter", "--headless", "--wayland", "--no-x11", "--virtual-monitor", "1280x720"),
        ("mutter", "--version"),
        {},
        VIRTUAL,
    ),
    "kwin": (
        (*DBUS, "kwin_wayland", "--virtual", "--width", "1280", "--height", "720", "--no-lockscreen"),
        ("kwin_wayland", "--version"),
        {},
        VIRTUAL,
    ),
}


class Failed(Exception):
    """There is no figure, and why."""


def version(name):
    """The first line of what it says of itself."""
    try:
        done = subprocess.run(PEERS[name][1], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{name}: {error}"
    return (done.stdout.strip() or done.stderr.strip() or name).splitlines()[0]


def tracing(event, on):
    """Has the kernel count an event by a key (`on`), or stop; False where it cannot."""
    path = EVENTS / event / "trigger"
    try:
        path.write_text(on, encoding="utf-8")
    except OSError:
        return False
    return True


class Counted:
    """Counts a trace event in the kernel, by keys, for the time of a `with`."""

    def __init__(self, event, keys):
        self._event = event
        self._trigger = f"hist:keys={keys}:size=4096"
        self.lines = []

    def __enter__(self):
        if not tracing(self._event, self._trigger):
            raise Failed(f"the kernel cannot count {self._event}")
        return self

    def __exit__(self, *_):
        text = (EVENTS / self._event / "hist").read_text(encoding="utf-8")
        self.lines = re.findall(r"^\{(.*)\} hitcount:\s+(\d+)", text, re.MULTILINE)
        tracing(self._event, f"!{self._trigger}")


class Compositor:
    """One of them, from its start to its end."""

    def __init__(self, name, number, log):
        command, _, files, self.note = PEERS[name]
        self.name = name
        self.folder = FOLDER / f"{name}-{number}"
        self.folder.mkdir(parents=True, mode=0o700)
        for file, text in files.items():
            (FOLDER / file).write_text(text, encoding="utf-8")
        self._cgroup = CGROUP / f"{name}-{number}"
        self._cgroup.mkdir()
        subprocess.run([SESSION, "true"], check=True)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.folder), "LIBSEAT_BACKEND": "seatd"}
        self.started_at = time.time()
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=self._join,
        )

    def _join(self):
        (self._cgroup / "cgroup.procs").write_text("0", encoding="utf-8")

    def environment(self):
        """That of its clients."""
        sockets = sorted(path.name for path in self.folder.glob("wayland-*") if path.suffix != ".lock")
        if not sockets:
            raise Failed("it has no socket")
        return {**os.environ, "XDG_RUNTIME_DIR": str(self.folder), "WAYLAND_DISPLAY": sockets[0]}

    def check(self):
        """That it is still there."""
        if self._process.poll() is not None:
            raise Failed(f"it ended, with status {self._process.returncode}")

    def end(self):
        """Ends all that it has started."""
        for pid in self._list("cgroup.procs"):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_S
        while self._list("cgroup.procs") and time.monotonic() < deadline:
            self._process.poll()
            time.sleep(0.1)
        (self._cgroup / "cgroup.kill").write_text("1", encoding="utf-8")
        self._process.wait()
        while self._list("cgroup.procs"):
            time.sleep(0.1)
        self._cgroup.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _list(self, file):
        return [int(line) for line in (self._cgroup / file).read_text(encoding="utf-8").split()]

    def cpu_us(self):
        """The CPU time of all its threads, in microseconds; that of kernel threads that work for it is not in it."""
        text = (self._cgroup / "cpu.stat").read_text(encoding="utf-8")
        return int(re.search(r"^usage_usec (\d+)", text, re.MULTILINE)[1])

    def wake_ups(self):
        """How often each of its threads has gone to sleep, by thread."""
        found = {}
        for thread in self._list("cgroup.threads"):
            try:
                text = pathlib.Path(f"/proc/{thread}/status").read_text(encoding="utf-8")
            except OSError:
                continue
            found[thread] = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)[1])
        return found

    def threads(self):
        """Its threads' ids."""
        return set(self._list("cgroup.threads"))

    def memory(self):
        """Resident and proportional memory of all its processes in MiB, and their file descriptors."""
        resident = proportional = descriptors = 0
        for pid in self._list("cgroup.procs"):
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
            resident += int(re.search(r"^Rss:\s+(\d+)", text, re.MULTILINE)[1])
            proportional += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return {"rss_mib": resident / 1024, "pss_mib": proportional / 1024, "fds": descriptors}


class Span:
    """What the compositor uses in a span of time."""

    def __init__(self, compositor):
        self._compositor = compositor
        self._start = time.monotonic(), compositor.cpu_us(), compositor.wake_ups()

    def end(self):
        """Seconds, microseconds of CPU time, and wake-ups."""
        then, cpu, wake_ups = self._start
        cpu = self._compositor.cpu_us() - cpu
        seconds = time.monotonic() - then
        now = self._compositor.wake_ups()
        return seconds, cpu, sum(count - wake_ups.get(thread, 0) for thread, count in now.items())
