# shellcheck shell=bash
# The environment that demo.sh and test.sh share. To be sourced:
#
#     . "${BASH_SOURCE[0]%/*}/env.sh"      # cd to the repository's root, POOLBENCH_* paths made absolute
#     poolbench_env [EXTRAS]               # .venv is there and complete, with pyproject's extras (test,dev)
#
# Reads  POOLBENCH_PYTHON       the Python to build .venv with (default: the first of python3, python3.13, 3.12, 3.11
#                               that is 3.11 to 3.13 and has venv)
#        POOLBENCH_TORCH_INDEX  the package index to take torch from: a URL, or `default` for pip's own. Not set and no
#                               NVIDIA GPU here: PyTorch's index of CPU builds where it answers, else pip's own
#
# Needs no more than bash 3.2 and the commands of POSIX, so that it runs on macOS too.

TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
STAMP=.venv/poolbench.stamp # written last: an environment without it was never finished
MARK=.venv/poolbench.made   # written first: an environment without it is not ours to remove
LOG=.venv/install.log

say() { printf 'poolbench: %s\n' "$*" >&2; }

die() {
    local code=$1
    shift
    say "$*"
    exit "$code"
}

# Relative paths in the environment were meant against the caller's folder, which we are about to leave.
absolute_path() { # NAME of a variable
    local value=${!1-}
    case $value in
        '' | /* | '~'* | *://*) ;;
        *) export "$1=$PWD/$value" ;;
    esac
}

# --- which Python ---------------------------------------------------------------------------------------------------

candidates() {
    if [ -n "${POOLBENCH_PYTHON-}" ]; then
        command -v "$POOLBENCH_PYTHON"
        return
    fi
    local name
    for name in python3 python3.13 python3.12 python3.11; do type -ap "$name" || :; done
}

# Sets PYTHON, or says in one line what is missing.
find_python() {
    local path version base bare='' old=''
    while IFS= read -r path; do
        # A version manager can have a shim on PATH for a version that is not there: it fails, and is passed over.
        # The base is asked for because python3 may be that of an active .venv, which we may have to remove.
        { read -r version && read -r base; } < <(
            "$path" -c 'import sys; print("%d.%d\n%s" % (*sys.version_info[:2], sys._base_executable))' 2>/dev/null
        ) || continue
        case $version in
            3.11 | 3.12 | 3.13) ;;
            *) old=${old:-$path is $version}; continue ;;
        esac
        # Debian takes venv's other half, ensurepip, out into a package of its own.
        if "$base" -c 'import venv, ensurepip, fcntl' 2>/dev/null; then
            PYTHON=$base
            return
        fi
        bare=${bare:-$base ($version)}
    done < <(candidates 2>/dev/null)
    if [ -n "$bare" ]; then
        die 2 "$bare has no venv module: install it (Debian and Ubuntu: apt install python3-venv)" \
            "or name another Python in POOLBENCH_PYTHON"
    fi
    if [ -n "${POOLBENCH_PYTHON-}" ]; then
        die 2 "POOLBENCH_PYTHON=$POOLBENCH_PYTHON is no Python 3.11, 3.12 or 3.13${old:+ ($old)}"
    fi
    die 2 "no python3 (3.11, 3.12 or 3.13) on PATH${old:+ ($old)}: install one or name it in POOLBENCH_PYTHON"
}

# --- is .venv what it should be -------------------------------------------------------------------------------------

hash_pins() {
    local sums
    sums=$(sha256sum constraints.txt pyproject.toml 2>/dev/null) ||
        sums=$(shasum -a 256 constraints.txt pyproject.toml 2>/dev/null) ||
        sums=$(cksum constraints.txt pyproject.toml) || return
    printf '%s' "$sums" | tr -s ' \n' '__'
}

python_version() { .venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# Sets HAVE_* from the stamp.
read_stamp() {
    HAVE_ROOT='' HAVE_PYTHON='' HAVE_TORCH='' HAVE_EXTRAS='' HAVE_PINS=''
    [ -f "$STAMP" ] || return 0
    {
        read -r HAVE_PINS
        read -r HAVE_EXTRAS
        read -r HAVE_PYTHON
        read -r HAVE_TORCH
        read -r HAVE_ROOT
    } <"$STAMP" || HAVE_PINS='' # cut short
}

write_stamp() { # EXTRAS
    printf '%s\n' "$(hash_pins)" "$1" "$(python_version)" "${POOLBENCH_TORCH_INDEX-}" "$PWD" >"$STAMP.new" &&
        mv "$STAMP.new" "$STAMP"
}

# A finished environment that can be kept, if perhaps brought up to date in place. It cannot when its interpreter was
# removed or changed, when the checkout was moved (scripts and the editable install hold its path), or when torch is
# asked for from elsewhere than it came from.
is_sound() {
    [ -n "$HAVE_PINS" ] && [ "$HAVE_ROOT" = "$PWD" ] && [ "$HAVE_PYTHON" = "$(python_version)" ] || return 1
    [ -z "${POOLBENCH_TORCH_INDEX-}" ] || [ "$HAVE_TORCH" = "$POOLBENCH_TORCH_INDEX" ] || return 1
    [ -z "${POOLBENCH_PYTHON-}" ] || {
        find_python
        [ "$HAVE_PYTHON" = "$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" ]
    }
}

is_current() { # EXTRAS; what demo.sh needs is in what test.sh installs
    [ "$HAVE_PINS" = "$(hash_pins)" ] && { [ -z "$1" ] || [ "$HAVE_EXTRAS" = "$1" ]; }
}

# --- the install ----------------------------------------------------------------------------------------------------

pip_install() {
    # A person's own pip settings for installs elsewhere (--user, --target) must not reach into .venv.
    (
        unset PIP_TARGET PIP_PREFIX PIP_ROOT
        PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
            exec .venv/bin/python -m pip "$@" -c constraints.txt --no-input --progress-bar off
    ) >>"$LOG" 2>&1 </dev/null
}

install_failed() { # WHAT
    tail -n 15 "$LOG" >&2
    die 1 "$1 failed (is a package index within reach?): the lines above end $PWD/$LOG; the next start begins anew"
}

# torch goes in first and alone: the index of CPU builds has none of our other packages.
install_torch() {
    local pin
    pin=$(grep '^torch==' constraints.txt)
    if compgen -G ".venv/lib/python*/site-packages/torch-${pin#torch==}[.+-]*" >/dev/null; then return; fi
    if [ -n "${POOLBENCH_TORCH_INDEX-}" ]; then
        [ "$POOLBENCH_TORCH_INDEX" = default ] && return
        pip_install install --no-deps --index-url "$POOLBENCH_TORCH_INDEX" "$pin" ||
            install_failed "installing $pin from $POOLBENCH_TORCH_INDEX"
        return
    fi
    [ "$(uname -s)" = Linux ] || return 0 # elsewhere pip's own index has CPU builds
    if nvidia-smi -L >/dev/null 2>&1; then return; fi
    # Asked first and with a bound, so that a host that cannot be reached costs seconds.
    if PIP_DISABLE_PIP_VERSION_CHECK=1 timeout 20 .venv/bin/python -m pip index versions torch \
        --index-url "$TORCH_CPU_INDEX" --retries 0 --timeout 5 2>>"$LOG" </dev/null | grep -qF "${pin#torch==}+cpu"; then
        pip_install install --no-deps --index-url "$TORCH_CPU_INDEX" --retries 1 "$pin+cpu" && return
    fi
    say "no CPU build of $pin within reach: pip's own choice may bring gigabytes of CUDA (POOLBENCH_TORCH_INDEX names another index)"
}

# Python holds the lock for us: flock(1) is not everywhere, and the kernel frees this one however we die. A pip that
# outlives us keeps it, rightly, until it has stopped writing.
lock() {
    exec 9>>.venv.lock || die 1 "cannot write in $PWD"
    "$PYTHON" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null && return
    say "another start is installing into .venv: waiting for it"
    "$PYTHON" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || die 1 "cannot lock $PWD/.venv.lock"
}

make_env() { # EXTRAS
    local extras=$1
    trap 'die 130 "interrupted: the next start begins the install anew"' INT TERM HUP
    if is_sound; then
        say "installing what changed into .venv"
        if [ -n "$HAVE_EXTRAS" ]; then extras=$HAVE_EXTRAS; fi
        rm -f "$STAMP"
    else
        if [ -d .venv ] && [ ! -f "$MARK" ] && [ -n "$(ls -A .venv)" ]; then
            die 2 "$PWD/.venv was not made by this script: move it away first"
        fi
        say "creating .venv with $PYTHON"
        rm -f "$STAMP"
        mkdir -p .venv && : >"$MARK" || die 1 "cannot write in $PWD"
        # What a killed install left can look complete to pip, so it is never built upon.
        find .venv/ -mindepth 1 -maxdepth 1 ! -name "${MARK##*/}" -exec rm -rf {} +
        "$PYTHON" -m venv .venv >"$LOG" 2>&1 || install_failed "creating .venv"
        say "installing the pinned packages (first start only, some minutes)"
    fi
    pip_install install "$(grep '^pip==' constraints.txt)" || install_failed "installing pip"
    install_torch
    pip_install install -e ".${extras:+[$extras]}" --build-constraint constraints.txt ||
        install_failed "installing the pinned packages"
    write_stamp "$extras" || die 1 "cannot write $PWD/$STAMP"
    trap - INT TERM HUP
}

poolbench_env() { # [EXTRAS]
    local extras=${1-}
    read_stamp
    if is_sound && is_current "$extras"; then return; fi
    find_python
    lock
    read_stamp # another start may have done it while we waited
    if ! { is_sound && is_current "$extras"; }; then make_env "$extras"; fi
    exec 9>&-
}

# --- on being sourced -----------------------------------------------------------------------------------------------

for name in POOLBENCH_MIRROR POOLBENCH_DATA POOLBENCH_RESULTS; do absolute_path "$name"; done
case ${POOLBENCH_PYTHON-} in */*) absolute_path POOLBENCH_PYTHON ;; esac
case ${BASH_SOURCE[0]} in */*) cd "${BASH_SOURCE[0]%/*}/.." ;; *) cd .. ;; esac || exit 2
unset name
