#!/usr/bin/env bash
# Owns the ways to start things in this repository: the compositor, the guest with real KMS, the tests and the checks.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Debian keeps mke2fs out of a user's path.
PATH=$PATH:/usr/sbin:/sbin

usage() {
    cat <<'USAGE'
./run.sh                    start fencepost: a window in your Wayland session, a session on this virtual terminal, or the
                            demonstration where there is neither
./run.sh tty [ARG…]         a session on this virtual terminal (ARGs go to fencepost)
./run.sh nested [ARG…]      a window in another compositor (ARGs go to fencepost)
./run.sh headless -- CMD…   fencepost without outputs, with CMD as its client
./run.sh vm [OPTION…] -- CMD…
                            CMD as root in a guest with real KMS, dma-bufs, fences and syncobjs; needs no hardware
    --gpu virgl|none        how the guest's virtio-gpu renders: asynchronously on the host, or on the guest's processor
    --kms virtio|vkms       the card in FENCEPOST_DRM_DEVICE; vkms has overlay planes and a writeback connector
    --outputs N             the outputs of the guest's virtio-gpu, 1 to 4 (default: 1)
    --cpus N                processors of the guest (default: 2 with KVM, 1 without)
    --timeout S             kill the guest after S seconds and exit with 124 (default: 600)
./run.sh test [unit|vm]     the tests: those of this machine, those of the guest, or both
./run.sh test sim [SEED]    the model of the synchronisation core alone (it is one of the unit tests); with the SEED of a
                            random run that failed, that run again
./run.sh check              formatting and lints
./run.sh bench [CASE…]      the benchmarks, or some of them: allocations, scale; in the guest sync-calls, policies and nested;
                            and in the newer guest, beside other compositors, latency, isolation, fence-to-commit,
                            release, idle, throughput, system-calls, commits, surfaces, memory, start
    --peers NAME,…          beside these: weston, sway, labwc, hyprland (the default), mutter, kwin
    --runs N                rounds, in each of which every compositor has its turn (default: 3)
    --seconds S             how long each load of them is measured (default: 10); all of them take about an hour
./run.sh probe-peers [NAME…]
                            fencepost's probe against the compositors of a newer guest, three times each, as a table:
                            fencepost, weston, sway, labwc, hyprland, mutter, kwin
./run.sh nested-peers [NAME…]
                            fencepost as a window of compositors of the newer guest (default: sway, labwc), with clients and
                            the probe's rules about the screen in it; what was seen of each
./run.sh help               this text

In the guest, the repository and cargo's target folder are at the paths they have here, read only. FENCEPOST_EXCHANGE
names a folder that both sides can write (here: set it to choose the folder). A command that needs udev and seatd goes
through tests/vm/guest-session; tests/vm/host-request takes screenshots and presses keys.

FENCEPOST_VM_MODE=WxH       the guest's screen (default: 1280x720)
FENCEPOST_VM_ACCEL=kvm|tcg  how the guest runs (default: KVM where it works)
FENCEPOST_VM_LOG=FILE       keeps the guest's kernel log
FENCEPOST_RIG_CACHE=DIR     where the guest's files are kept (default: in the user's cache folder)
FENCEPOST_RIG_MIRROR=URL    the Debian mirror the guest is made from (default: the one of this machine)
USAGE
}

die() {
    echo "run.sh: $*" >&2
    exit 1
}

# What each job needs, as PACKAGE:FILE; a plain FILE is a command to be found, *.pc is for pkg-config, *.so.N for the
# dynamic linker.
build_needs=(
    gcc:gcc libc6-dev:/usr/include/stdio.h pkg-config:pkg-config libgbm-dev:gbm.pc libinput-dev:libinput.pc libseat-dev:libseat.pc
    libudev-dev:libudev.pc libxkbcommon-dev:xkbcommon.pc libdrm-dev:libdrm.pc libpixman-1-dev:pixman-1.pc
)
# What the compositor needs to run; then what it draws with where there is no GPU.
run_needs=(libegl1:libEGL.so.1 libgles2:libGLESv2.so.2 xkb-data:/usr/share/X11/xkb/rules/evdev)
software_needs=(libgl1-mesa-dri:/usr/lib/x86_64-linux-gnu/dri/swrast_dri.so)
vm_needs=(
    qemu-system-x86:qemu-system-x86_64 qemu-system-gui:/usr/lib/x86_64-linux-gnu/qemu/ui-sdl.so xvfb:Xvfb
    "${software_needs[@]}" imagemagick:import python3:python3
    mmdebstrap:mmdebstrap debian-archive-keyring:/usr/share/keyrings/debian-archive-keyring.gpg e2fsprogs:mke2fs
    fakeroot:fakeroot xz-utils:xz util-linux:flock
)
# Without root, mmdebstrap maps user ids.
[[ $EUID -eq 0 ]] || vm_needs+=(uidmap:newuidmap)

has() {
    case $1 in
    /*) [[ -e $1 ]] ;;
    *.so.*) [[ $(PATH=$PATH:/usr/sbin:/sbin ldconfig -p) == *"$1"* ]] ;;
    *.pc) pkg-config --exists "${1%.pc}" 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# Sees to it that the packages of the needs given are there: by apt-get where there is one, else by saying what is missing.
require() {
    local need missing=()
    for need in "$@"; do
        has "${need#*:}" || missing+=("${need%%:*}")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    echo "run.sh: missing packages: ${missing[*]}" >&2
    command -v apt-get >/dev/null || die "install them (the names are Debian's) and try again"
    local root=(env DEBIAN_FRONTEND=noninteractive)
    [[ $EUID -eq 0 ]] || root=(sudo "${root[@]}")
    "${root[@]}" true || die "could not become root to install them"
    # A machine that never ran `apt-get update` knows no package. A mirror that does not answer, or somebody else who uses apt,
    # is waited for.
    local tries=30
    until "${root[@]}" apt-get update -o Acquire::Retries=3 >&2 &&
        "${root[@]}" apt-get install --yes --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
            "${missing[@]}" >&2; do
        ((--tries)) || die "could not install them"
        echo "run.sh: trying again in ten seconds" >&2
        sleep 10
    done
}

require_cargo() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust as https://rustup.rs says"
    require "${build_needs[@]}"
}

target_folder() {
    echo "${CARGO_TARGET_DIR:-$repo/target}"
}

build_release() {
    require_cargo
    cargo build --release --locked
}

session() {
    require "${run_needs[@]}"
    build_release
    exec "$(target_folder)/release/fencepost" run --backend kms "$@"
}

nested() {
    require "${run_needs[@]}"
    build_release
    exec "$(target_folder)/release/fencepost" run --backend nested "$@"
}

headless() {
    [[ ${1-} == -- && $# -gt 1 ]] || die "usage: ./run.sh headless -- CMD…"
    require "${run_needs[@]}"
    build_release
    exec "$(target_folder)/release/fencepost" run --backend headless "$@"
}

# The command line that boots the guest, or the one with the name given, once its files are there.
vm_command() {
    require "${vm_needs[@]}"
    rig=$("$repo/tests/vm/rig-build" "$@")
    vm=(python3 -B "$repo/tests/vm/host.py" --rig "$rig" --repo "$repo")
}

vm() {
    [[ " $* " == *" -- "* ]] || die "usage: ./run.sh vm [OPTION…] -- CMD… (./run.sh help lists the options)"
    vm_command
    exec "${vm[@]}" "$@"
}

probe_peers() {
    require_cargo
    vm_command peers
    cargo build --locked
    local folder status=0
    folder=$(mktemp -d -t fencepost-probe.XXXXXX)
    FENCEPOST_EXCHANGE=$folder "${vm[@]}" --timeout 7200 -- \
        "$repo/tests/vm/probe-peers" "$(target_folder)/debug/fencepost" "$@" || status=$?
    "$repo/tests/vm/probe-table" "$folder" || status=1
    exit "$status"
}

nested_peers() {
    require_cargo
    vm_command peers
    cargo build --locked
    local folder
    folder=$(mktemp -d -t fencepost-nested.XXXXXX)
    echo "run.sh: traces, reports and logs are in $folder" >&2
    FENCEPOST_EXCHANGE=$folder exec "${vm[@]}" --timeout 1800 -- "$repo/tests/vm/nested-peers" "$(target_folder)/debug/fencepost" "$@"
}

demo() {
    require_cargo
    vm_command
    cargo build --locked
    local folder status=0
    folder=$(mktemp -d -t fencepost-demo.XXXXXX)
    echo "run.sh: the demonstration, in a guest with real KMS: four clients for ten seconds" >&2
    FENCEPOST_EXCHANGE=$folder "${vm[@]}" --timeout 300 -- "$repo/tests/vm/demo-guest" "$(target_folder)/debug/fencepost" || status=$?
    "$repo/tests/vm/demo-table" "$folder" || status=1
    return "$status"
}

unit_tests() {
    require_cargo
    require "${run_needs[@]}" "${software_needs[@]}" libwayland-bin:wayland-scanner
    cargo test --locked
}

# The tests that run in the guest, a boot each: the test target of Cargo.toml, what the names of its tests contain (or, after
# --skip, do not) if only some are meant, then the options of ./run.sh vm.
vm_suites=(
    "kms: --gpu virgl --timeout 3000"
    "oracle --skip gpus: --gpu none --kms vkms --timeout 1500"
    "oracle gpus: --gpu virgl --kms vkms --timeout 900"
    "unplugged display: --gpu virgl --timeout 600"
    "unplugged timelines: --gpu virgl --timeout 600"
)

# The longest of them takes a third of it where nothing else runs.
vm_test_limit_s=400

# Builds a test target and prints the path of its program.
test_program() {
    cargo test --locked --features guest --test "$1" --no-run --message-format=json | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == sys.argv[1]:
        print(message["executable"])
' "$1"
}

vm_tests() {
    require_cargo
    vm_command
    local suite tests options program folder failed=()
    for suite in "${vm_suites[@]}"; do
        read -ra tests <<<"${suite%%:*}"
        read -ra options <<<"${suite#*:}"
        program=$(test_program "${tests[0]}")
        echo "run.sh: in the guest: $suite" >&2
        folder=$(mktemp -d -t fencepost-tests.XXXXXX)
        FENCEPOST_EXCHANGE=$folder "${vm[@]}" --die-with-parent "${options[@]}" -- \
            "$repo/tests/vm/guest-tests" "$vm_test_limit_s" "$program" "${tests[@]:1}" ||
            failed+=("${tests[*]}: $(cat "$folder"/{failed,running} 2>/dev/null | paste -sd ' ')")
        rmdir --ignore-fail-on-non-empty "$folder"
    done
    demo || failed+=(demonstration)
    [[ ${#failed[@]} -eq 0 ]] || die "failed in the guest: $(IFS=$'\n'; echo "${failed[*]}")"
}

sim_tests() {
    require_cargo
    if [[ $# -gt 0 ]]; then
        FENCEPOST_SIM_SEED=$1 cargo test --locked --test sim random::no_order -- --nocapture
    else
        cargo test --locked --test sim
    fi
}

run_tests() {
    case ${1-all} in
    unit) unit_tests ;;
    sim) sim_tests "${@:2}" ;;
    vm) vm_tests ;;
    all)
        unit_tests
        vm_tests
        ;;
    *) die "no such tests: $1 (unit, sim, vm)" ;;
    esac
}

check() {
    require_cargo
    require shellcheck:shellcheck
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    cargo clippy --all-targets --features guest --locked -- -D warnings
    shellcheck run.sh .ci/run tests/bench/{nested,policies,sync-calls}-guest tests/vm/{demo-guest,guest-init,guest-session,host-request,initramfs-init,nested-peers,peers,probe-peers,rig-build,rig-customize}
}

# Runs a benchmark's program in the guest and prints its table: its name, how fencepost is built, how many frames.
bench_in_guest() {
    vm_command
    local build=() folder
    [[ $2 == debug ]] || build=(--release)
    cargo build "${build[@]}" --locked --bin fencepost
    folder=$(mktemp -d -t fencepost-bench.XXXXXX)
    FENCEPOST_EXCHANGE=$folder "${vm[@]}" --die-with-parent --gpu virgl -- \
        "$repo/tests/bench/$1-guest" "$(target_folder)/$2/fencepost" "$3"
    "$repo/tests/bench/$1-table" "$folder"
}

# The system calls of synchronisation per commit.
bench_sync_calls() {
    bench_in_guest sync-calls debug 300
}

# The acquire policies on the same clients.
bench_policies() {
    bench_in_guest policies debug 600
}

# A client on the screen, in a window, and filling a window.
bench_nested() {
    bench_in_guest nested release 400
}

# fencepost and other compositors, one after the other in one boot, with the same clients: cases, peers, rounds, seconds.
bench_peers() {
    vm_command peers
    cargo build --release --locked --bin fencepost --example load
    local folder commit status=0 release
    folder=$(mktemp -d -t fencepost-bench.XXXXXX)
    commit=$(git describe --always --dirty || echo unknown)
    release=$(target_folder)/release
    FENCEPOST_EXCHANGE=$folder FENCEPOST_BENCH_COMMIT=$commit FENCEPOST_BENCH_BUILD="release build" \
        "${vm[@]}" --die-with-parent --gpu virgl --timeout 14400 -- "$repo/tests/bench/peers-guest" \
        "$release/fencepost" "$release/examples/load" --cases "$1" --peers "fencepost,$2" --runs "$3" --seconds "$4" || status=1
    "$repo/tests/bench/peers-table" "$folder" "$folder/results" || status=1
    echo "run.sh: tables, plots and figures are in $folder/results" >&2
    return "$status"
}

here_cases=(allocations scale)
guest_cases=(sync-calls policies nested)
peers_cases=(latency isolation fence-to-commit release idle throughput system-calls commits surfaces memory start)

bench() {
    local case here=() guest=() beside=() peers=weston,sway,labwc,hyprland runs=3 seconds=10
    while [[ $# -gt 0 ]]; do
        if [[ " ${here_cases[*]} " == *" $1 "* ]]; then
            here+=("$1")
        elif [[ " ${guest_cases[*]} " == *" $1 "* ]]; then
            guest+=("$1")
        elif [[ " ${peers_cases[*]} " == *" $1 "* ]]; then
            beside+=("$1")
        elif [[ $1 == --peers || $1 == --runs || $1 == --seconds ]]; then
            [[ $# -gt 1 ]] || die "$1 wants a value"
            declare "${1#--}=$2"
            shift
        else
            die "no such benchmark: $1 (./run.sh help lists them)"
        fi
        shift
    done
    if [[ -z ${here[*]}${guest[*]}${beside[*]} ]]; then
        here=("${here_cases[@]}") guest=("${guest_cases[@]}") beside=("${peers_cases[@]}")
    fi
    require_cargo
    require "${run_needs[@]}" "${software_needs[@]}"
    [[ ${#here[@]} -eq 0 ]] || cargo bench --locked --bench cost -- "${here[@]}"
    for case in "${guest[@]}"; do
        "bench_${case//-/_}"
    done
    [[ ${#beside[@]} -eq 0 ]] || bench_peers "$(IFS=,; echo "${beside[*]}")" "$peers" "$runs" "$seconds"
}

on_virtual_terminal() {
    [[ $(tty) == /dev/tty[0-9]* ]] && compgen -G '/dev/dri/card*' >/dev/null
}

in_wayland() {
    [[ -n ${WAYLAND_DISPLAY-} ]] || return
    case $WAYLAND_DISPLAY in
    /*) [[ -S $WAYLAND_DISPLAY ]] ;;
    *) [[ -S ${XDG_RUNTIME_DIR-}/$WAYLAND_DISPLAY ]] ;;
    esac
}

# The main job: a window in a Wayland session (or, if nobody answers there, a screen), a session where there is a screen to
# take, else the demonstration in the guest.
start() {
    if in_wayland; then
        require "${run_needs[@]}"
        build_release
        exec "$(target_folder)/release/fencepost" run --backend auto
    elif on_virtual_terminal; then
        session
    else
        demo
    fi
}

main() {
    local job=${1-start}
    shift || true
    # Only the guest's command cares where it was started.
    [[ $job == vm ]] || cd "$repo"
    case $job in
    start) start ;;
    tty) session "$@" ;;
    nested) nested "$@" ;;
    headless) headless "$@" ;;
    vm) vm "$@" ;;
    test) run_tests "$@" ;;
    check) check ;;
    bench) bench "$@" ;;
    probe-peers) probe_peers "$@" ;;
    nested-peers) nested_peers "$@" ;;
    help | -h | --help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
}

main "$@"
