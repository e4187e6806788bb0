"""Owns the two processes of a run, QEMU and the X server that shows the guest's screen, and all they are given.

QEMU gets sockets and anonymous files that are already open, so nothing of a run has a name that could clash or stay.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile

MEMORY = "3G"
END_S = 5
# QEMU's window before the guest has set a mode.
WINDOW_AT_START = (640, 480)

# Everything the kernel complains about is printed (loglevel), an oops ends the guest, and what only makes an emulated
# processor slower is off.
KERNEL_ARGUMENTS = (
    "console=ttyS0 loglevel=5 printk.devkmsg=on panic=-1 oops=panic watchdog_thresh=60"
    " mitigations=off audit=0 vt.global_cursor_default=0 tsc=nowatchdog"
)

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def die_with_parent(signal_number):
    """The calling process gets the signal when its parent ends, even if that is killed outright."""
    libc.prctl(PR_SET_PDEATHSIG, signal_number)


def start(command, end_signal, **arguments):
    """Starts a process that gets `end_signal` when this one ends."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # Keeps the terminal's Ctrl-C for this process, which then ends the others in order.
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(end_signal),
        **arguments,
    )


def end(process, patience_s=END_S):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def private_display(mode):
    """An X server for the guest's window alone; yields its DISPLAY and the geometry of the guest's screen in it."""
    reader, writer = os.pipe()
    # QEMU's first window is in the middle, and grows to the right and down when the guest sets its mode.
    size = [2 * max(at_start, wanted) for at_start, wanted in zip(WINDOW_AT_START, mode)]
    left, top = ((whole - at_start) // 2 for whole, at_start in zip(size, WINDOW_AT_START))
    screen = f"{size[0]}x{size[1]}x24"
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", screen, "-nolisten", "tcp", "-noreset"]
    process = start(command, signal.SIGTERM, pass_fds=(writer,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        os.close(writer)
        with open(reader, "rb") as number:
            display = number.readline().strip().decode()
        if not display:
            sys.exit("vm: Xvfb does not start")
        yield f":{display}", f"{mode[0]}x{mode[1]}+{left}+{top}"
    finally:
        end(process)


class Guest:
    """One QEMU process and the sockets to it. `shares` are the folders it sees, as (tag, path, read_only); `job` is the
    text that tests/vm/guest-init reads."""

    PORTS = ("stdout", "stderr", "control", "request")

    def __init__(self, options, accelerator, display, shares, job):
        self.process = None
        self.sockets = {}
        self._theirs = []
        self._errors = tempfile.TemporaryFile()
        command = [
            *("qemu-system-x86_64", "-name", "fencepost", "-nodefaults", "-no-user-config", "-no-reboot"),
            *("-machine", "pc,i8042=off,vmport=off", "-m", MEMORY),
            *processor_arguments(accelerator, options.cpus),
            *("-kernel", str(options.rig / "vmlinuz"), "-initrd", str(options.rig / "initramfs")),
            *("-append", KERNEL_ARGUMENTS),
            # snapshot: the guest writes to a file that QEMU has already unlinked.
            *("-drive", f"file={escape(options.rig / 'root.img')},format=raw,if=virtio,snapshot=on"),
            *self._job(job),
            *("-serial", "chardev:console", *self._chardev("console")),
            *("-mon", "chardev=qmp,mode=control", *self._chardev("qmp")),
            *("-device", "virtio-serial-pci"),
        ]
        for folder in shares:
            command += share_arguments(*folder)
        for port in self.PORTS:
            command += ["-device", f"virtserialport,chardev={port},name=fencepost.{port}", *self._chardev(port)]
        command += display_arguments(options)
        environment = {**os.environ, "DISPLAY": display[0], "SDL_VIDEODRIVER": "x11", "SDL_AUDIODRIVER": "dummy"}
        environment.pop("WAYLAND_DISPLAY", None)
        descriptors = [fd.fileno() for fd in self._theirs]
        self.process = start(
            command, signal.SIGKILL, pass_fds=descriptors, env=environment, stdout=self._errors, stderr=self._errors
        )
        for fd in self._theirs:
            fd.close()

    def _chardev(self, name):
        ours, theirs = socket.socketpair()
        self.sockets[name] = ours
        self._theirs.append(theirs)
        return "-chardev", f"socket,id={name},fd={theirs.fileno()}"

    def _job(self, text):
        job = os.fdopen(os.memfd_create("job"), "wb", buffering=0)
        job.write(os.fsencode(text))
        self._theirs.append(job)
        return "-fw_cfg", f"name=opt/fencepost/job,file=/proc/self/fd/{job.fileno()}"

    def close(self):
        end(self.process)
        for sock in self.sockets.values():
            sock.close()

    def errors(self):
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()


def escape(path):
    """A path as a QEMU option value."""
    return str(path).replace(",", ",,")


def share_arguments(tag, path, read_only):
    protection = ",readonly=on" if read_only else ""
    return (
        *("-fsdev", f"local,id={tag},path={escape(path)},security_model=none,multidevs=remap{protection}"),
        *("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
    )


def processor_arguments(accelerator, cpus):
    if accelerator == "kvm":
        return "-accel", "kvm", "-cpu", "host", "-smp", str(cpus or 2)
    # Several processors on several threads trip over the kernel patching its own code (QEMU 7.2 under TCG).
    return "-accel", "tcg,thread=single,tb-size=512", "-cpu", "max", "-smp", str(cpus or 1)


def display_arguments(options):
    device = "virtio-gpu-gl-pci" if options.gpu == "virgl" else "virtio-gpu-pci"
    gl = "on" if options.gpu == "virgl" else "off"
    return [
        *("-vga", "none", "-display", f"sdl,gl={gl}"),
        # Without an EDID the mode is exactly the one asked for, at 60 Hz.
        *("-device", f"{device},edid=off,max_outputs={options.outputs},xres={options.mode[0]},yres={options.mode[1]}"),
        *("-device", "virtio-keyboard-pci", "-device", "virtio-tablet-pci"),
    ]
