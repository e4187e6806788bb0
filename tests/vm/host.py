"""Owns one run of the guest, seen from the host: what the guest gets to see and to do, the command's output and status,
the watch over the guest's kernel log, and an end that leaves no process and no file behind.
"""

import argparse
import contextlib
import os
import pathlib
import re
import selectors
import shlex
import signal
import sys
import tempfile
import time

from host_machine import Guest, die_with_parent, private_display
from host_requests import Qmp, RequestError, Requests

TIMED_OUT = 124
# How long a guest under KVM may take to its first sign of life; one that runs at all needs about two seconds.
KVM_SIGN_OF_LIFE_S = 10
SIGN_OF_LIFE = b"guest: up"
# How long the guest's kernel may take to print what it has logged when the command has ended.
LOG_FLUSH_S = 10
END_OF_LOG = b"fencepost: end of the run"
TICK_S = 0.2

KERNEL_COMPLAINT = re.compile(
    r"WARNING:|BUG:|Oops|Kernel panic|Call Trace|general protection fault|refcount_t|KASAN|UBSAN|lockdep"
    r"|possible (recursive|circular|irq)|hung task|blocked for more than"
)
# The one complaint that is about the emulated machine: its processor got no time from this one for as long as the kernel
# waits for a vblank (100 ms). The commit goes on all the same.
STARVED = "vblank wait timed out"
# The one complaint that is about a driver: a virtio GPU that is unbound while it is used loses buffers, as it frees them
# when the host answers (Linux 7.2). No process can cause it otherwise.
UNBOUND = "drm_mm_takedown"
END_OF_TRACE = "---[ end trace"
COMPLAINT_LINES_MAX = 120
LAST_LINES = 20

# Host variables the command sees: these and FENCEPOST_*, except those that tests/vm/guest-init sets.
FORWARDED = ("RUST_LOG", "RUST_BACKTRACE", "WAYLAND_DEBUG")
SET_IN_GUEST = ("FENCEPOST_EXCHANGE", "FENCEPOST_DRM_DEVICE")

class Stop(BaseException):
    """A signal ends the run. Not an Exception, so that nothing on the way mistakes it for a failure it can handle."""

    def __init__(self, signal_number):
        super().__init__(signal_number)
        self.signal_number = signal_number


def say(text):
    print(f"vm: {text}", file=sys.stderr, flush=True)


def parse_arguments():
    usage = "./run.sh vm [--gpu virgl|none] [--kms virtio|vkms] [--outputs N] [--cpus N] [--timeout S] -- CMD..."
    parser = argparse.ArgumentParser(prog="./run.sh vm", usage=usage, add_help=False, allow_abbrev=False)
    parser.add_argument("--gpu", choices=("virgl", "none"), default="virgl")
    parser.add_argument("--kms", choices=("virtio", "vkms"), default="virtio")
    parser.add_argument("--outputs", type=int, choices=range(1, 5), default=1)
    parser.add_argument("--cpus", type=int)
    parser.add_argument("--timeout", type=int, default=600)
    # What run.sh adds: where things are, and whether it waits for this process instead of becoming it.
    parser.add_argument("--rig", type=pathlib.Path, required=True)
    parser.add_argument("--repo", type=pathlib.Path, required=True)
    parser.add_argument("--die-with-parent", action="store_true")
    arguments = sys.argv[1:]
    if "--" not in arguments[:-1]:
        parser.error("no command: it comes after --")
    split = arguments.index("--")
    options = parser.parse_args(arguments[:split])
    options.command = arguments[split + 1 :]
    options.mode = parse_mode(parser, os.environ.get("FENCEPOST_VM_MODE", "1280x720"))
    return options


def parse_mode(parser, text):
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        parser.error(f"FENCEPOST_VM_MODE is not WIDTHxHEIGHT: {text}")
    return int(match[1]), int(match[2])


@contextlib.contextmanager
def exchange_folder():
    """The folder both sides can write: FENCEPOST_EXCHANGE, or a temporary one that stays only if it got a file."""
    given = os.environ.get("FENCEPOST_EXCHANGE")
    if given:
        folder = pathlib.Path(given).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fencepost-exchange."))
    try:
        yield folder
    finally:
        try:
            folder.rmdir()
        except OSError:
            say(f"the guest left files in {folder}")


def target_folder(repo):
    """Where cargo builds."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", repo / "target")).absolute()


def target_share(repo):
    """Cargo's target folder when it lies outside the repository, which is shared anyway."""
    target = target_folder(repo)
    return None if target.is_relative_to(repo) or not target.is_dir() else target


def job_text(options, target):
    """What tests/vm/guest-init runs: assignments for bash."""
    cwd = pathlib.Path.cwd()
    if not any(cwd.is_relative_to(folder) for folder in (options.repo, target) if folder):
        cwd = options.repo
    environment = [
        f"{name}={value}"
        for name, value in os.environ.items()
        if name in FORWARDED or (name.startswith("FENCEPOST_") and name not in SET_IN_GUEST)
    ]
    environment.append(f"CARGO_TARGET_DIR={target_folder(options.repo)}")
    return "".join(
        (
            f"repo={shlex.quote(str(options.repo))}\n",
            f"target={shlex.quote(str(target or ''))}\n",
            f"cwd={shlex.quote(str(cwd))}\n",
            f"kms={options.kms}\n",
            f"environment=({shlex.join(environment)})\n",
            f"command=({shlex.join(options.command)})\n",
        )
    )


class Accelerators:
    """KVM if it really runs a guest here, else emulation. A KVM that opens may still hang every guest, so the verdict
    comes from a boot, and is kept until the host's next one."""

    def __init__(self, cache):
        self._file = cache / "kvm"
        self._boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def candidates(self):
        """(name, whether it still has to show that it works), in the order to try."""
        forced = os.environ.get("FENCEPOST_VM_ACCEL")
        if forced in ("kvm", "tcg"):
            return [(forced, False)]
        if forced:
            sys.exit(f"vm: FENCEPOST_VM_ACCEL is neither kvm nor tcg: {forced}")
        verdict = self._verdict()
        if verdict == "no" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return [("tcg", False)]
        if verdict == "yes":
            return [("kvm", False)]
        return [("kvm", True), ("tcg", False)]

    def learn(self, works):
        partial = self._file.with_suffix(f".{os.getpid()}")
        partial.write_text(f"{self._boot} {'yes' if works else 'no'}\n")
        partial.replace(self._file)

    def _verdict(self):
        try:
            boot, verdict = self._file.read_text().split()
        except (OSError, ValueError):
            return None
        return verdict if boot == self._boot else None


class Run:
    """Relays between one guest and this process until the guest ends."""

    def __init__(self, guest, display, options, exchange):
        self._guest = guest
        self._qmp = Qmp(guest.sockets["qmp"])
        self._requests = Requests(self._qmp, display, options.mode, exchange)
        self._pending = {"control": b"", "request": b""}
        self._quit_at = None
        self.log = b""
        self.status = None

    def relay(self, sign_of_life_s=None):
        """Returns when the guest has ended, or has given no sign of life in the given time: whether it has given one."""
        deadline = sign_of_life_s and time.monotonic() + sign_of_life_s
        with selectors.DefaultSelector() as selector:
            for name in ("console", *Guest.PORTS):
                selector.register(self._guest.sockets[name], selectors.EVENT_READ, name)
            while selector.get_map():
                for key, _ in selector.select(timeout=TICK_S if deadline or self._quit_at else None):
                    data = receive(key.fileobj)
                    if data:
                        self._take(key.data, data)
                    else:
                        selector.unregister(key.fileobj)
                if SIGN_OF_LIFE in self.log:
                    deadline = None
                if deadline and time.monotonic() > deadline:
                    return False
                self._end_when_done()
        return SIGN_OF_LIFE in self.log

    def _take(self, name, data):
        if name == "console":
            self.log += data
        elif name == "stdout":
            write_all(1, data)
        elif name == "stderr":
            write_all(2, data)
        else:
            *lines, self._pending[name] = (self._pending[name] + data).split(b"\n")
            for line in lines:
                self._take_line(name, line.decode(errors="replace"))

    def _take_line(self, name, line):
        if name == "request":
            answer = self._requests.answer(line).encode() + b"\n"
            with contextlib.suppress(OSError):  # a guest that is gone needs no answer
                self._guest.sockets["request"].sendall(answer)
        elif line.startswith("status "):
            self.status = int(line.removeprefix("status "))
            self._quit_at = time.monotonic() + LOG_FLUSH_S

    def _end_when_done(self):
        if self._quit_at and (END_OF_LOG in self.log or time.monotonic() > self._quit_at):
            self._quit_at = None
            with contextlib.suppress(RequestError, OSError):
                self._qmp.execute("quit")


def receive(sock):
    try:
        return sock.recv(1 << 16)
    except ConnectionResetError:
        return b""


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]


def run_guest(options, display, exchange):
    """Boots until an accelerator works; returns the exit status of the run."""
    accelerators = Accelerators(options.rig.parent)
    target = target_share(options.repo)
    shares = [("repo", options.repo, True), ("exchange", exchange, False)]
    if target:
        shares.append(("target", target, True))
    job = job_text(options, target)
    for accelerator, on_trial in accelerators.candidates():
        guest = Guest(options, accelerator, display, shares, job)
        run = Run(guest, display, options, exchange)
        try:
            alive = run.relay(KVM_SIGN_OF_LIFE_S if on_trial else None)
        finally:
            guest.close()
            # Also when a signal or the timeout ends the run: the kernel may have said why it hangs.
            complained = report_kernel_log(run.log, accelerator)
        if on_trial:
            accelerators.learn(alive)
        if alive or not on_trial:
            break
    if run.status is None:
        report_lost(run, guest)
        return 1
    return run.status or (1 if complained else 0)


def without_traces(lines, of):
    """The lines without the traces that say this in their first line, and the count of those."""
    kept, count, within = [], 0, False
    for line in lines:
        if not within and of in line:
            within = True
            count += 1
        if not within:
            kept.append(line)
        within = within and END_OF_TRACE not in line
    return kept, count


def report_kernel_log(log, accelerator):
    """Shows what the guest's kernel complained about; whether it did."""
    if kept := os.environ.get("FENCEPOST_VM_LOG"):
        pathlib.Path(kept).write_bytes(log)
    lines = text_lines(log)
    lines, count = without_traces(lines, UNBOUND)
    if count:
        say(f"the GPU's driver lost buffers {count} times when it was unbound")
    if accelerator == "tcg":
        lines, count = without_traces(lines, STARVED)
        if count:
            say(f"the emulated machine stood still {count} times for longer than the kernel waits for a vblank")
    complaints = [number for number, line in enumerate(lines) if KERNEL_COMPLAINT.search(line)]
    if complaints:
        named = sorted({KERNEL_COMPLAINT.search(lines[number])[0] for number in complaints})
        say(f"the guest's kernel complained ({', '.join(named)}):")
        show(lines[complaints[0] :][:COMPLAINT_LINES_MAX])
    return bool(complaints)


def report_lost(run, guest):
    say("the guest ended before the command did; the last it and QEMU said:")
    show([*text_lines(run.log)[-LAST_LINES:], *guest.errors().splitlines()[-LAST_LINES:]])


def text_lines(log):
    return [line.rstrip() for line in log.decode(errors="replace").splitlines()]


def show(lines):
    for line in lines:
        print(f"    {line}", file=sys.stderr)


def stop_on_signals():
    def stop(signal_number, _frame):
        # One is enough: a second must not interrupt the cleaning up.
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise Stop(signal_number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    for number in signals:
        signal.signal(number, stop)


def main():
    options = parse_arguments()
    if options.die_with_parent:
        die_with_parent(signal.SIGTERM)
    stop_on_signals()
    signal.alarm(options.timeout)
    try:
        with private_display(options.mode) as display, exchange_folder() as exchange:
            return run_guest(options, display, exchange)
    except Stop as stop:
        if stop.signal_number == signal.SIGALRM:
            say(f"the guest was killed: it had not ended after {options.timeout} seconds")
            return TIMED_OUT
        return 128 + stop.signal_number
    except BrokenPipeError:
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
