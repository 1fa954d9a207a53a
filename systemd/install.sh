#!/bin/sh
# Sets hcs-daemon up as a service of systemd, brings a newer version in, or takes the service away again.
# What it does is said by --dry-run; docs/install-linux.md explains it.
set -eu
umask 022

source_dir=$(cd "$(dirname "$0")/.." && pwd -P)
cd / # the service's user may not be allowed where we are
items="hcs_daemon docs monitoring systemd bootstrap.py constraints.txt pyproject.toml config.example.toml Makefile \
README.md CHANGELOG.md LICENSE"

usage() {
    cat <<'END'
usage: systemd/install.sh [install] [--instrument NAME] [--results DIR] [--wheelhouse DIR] [--root DIR] [--dry-run]
       systemd/install.sh uninstall [--instrument NAME] [--root DIR] [--dry-run]

install     copies the program to /opt/hcs-daemon with an environment of its own, makes the user hcs-daemon,
            /etc/hcs-daemon and /var/lib/hcs-daemon, installs the units, tries the settings and starts the service.
            Run it again after a change of results.directory, and from a newer checkout to bring that in;
            if that cannot be installed, the program that was there is put back, and started again.
uninstall   stops the service and removes what install put there. Settings, results, /var/lib/hcs-daemon,
            /var/cache/hcs-daemon and the user stay.

--instrument NAME  one of several instruments: the service hcs-daemon@NAME with /etc/hcs-daemon/NAME.toml
--results DIR      the results folder that new settings get; refused where there are settings that name another
--wheelhouse DIR   install from the wheels in this folder alone, without a network
--root DIR         only put the files below DIR, for a package or an image; nothing is run, nobody need be root
--dry-run          say what would be done, and do nothing

PYTHON=python3.12 in the environment names the Python to take.
END
}

say() { printf '%s\n' "$*"; }

fail() { # fail WHAT-IS-WRONG WHAT-TO-DO
    printf '%s\n%s\n' "$1" "$2" >&2
    exit 2
}

run() { # run COMMAND…: what changes something goes through here
    if [ -n "$dry" ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

put() { # put SOURCE TARGET: a file that everybody may read, if it is not there just so
    if ! cmp -s "$1" "$2"; then
        run mkdir -p "$(dirname "$2")"
        run cp "$1" "$2"
        run chmod 0644 "$2"
    fi
}

put_text() { # put_text TEXT TARGET
    if [ "$(cat "$2" 2>/dev/null)" != "$1" ]; then
        run mkdir -p "$(dirname "$2")"
        if [ -n "$dry" ]; then
            say "would write $2:"
            printf '%s\n' "$1" | sed 's/^/    /'
        else
            printf '%s\n' "$1" >"$2"
        fi
    fi
}

drop() { # drop FILE-OR-FOLDER…
    for dropped in "$@"; do
        if [ -e "$dropped" ] || [ -L "$dropped" ]; then
            run rm -rf "$dropped"
        fi
    done
}

settings_of() { # settings_of UNIT
    case $1 in
        hcs-daemon@*) instance=${1#hcs-daemon@} && say "$settings_dir/${instance%.service}.toml" ;;
        *) say "$settings_dir/config.toml" ;;
    esac
}

drop_in_of() { say "$unit_dir/$1.d/results.conf"; }

as_service() { runuser -u hcs-daemon -- env HOME=/var/lib/hcs-daemon "$@"; }

running() { # the units of ours that are up
    systemctl list-units --plain --no-legend --state=active,activating,reloading \
        hcs-daemon.service 'hcs-daemon@*.service' | awk '{ print $1 }'
}

# ---- what must be there

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            say "$candidate"
            return
        fi
    done
    fail "there is no Python 3.11 or newer here" \
        "install one (Debian 12, Ubuntu 24.04 and newer have it), or name it: PYTHON=python3.12 systemd/install.sh"
}

check_machine() {
    [ -d /run/systemd/system ] || fail "this machine is not run by systemd" \
        "docs/install.md has other ways: a container, or hcs-daemon run under whatever starts services here"
    [ -n "$dry" ] || [ "$(id -u)" = 0 ] || fail "this must be done as root" \
        "sudo systemd/install.sh, or --dry-run to see what it would do"
}

check_results() { # check_results FOLDER
    case $1 in
        *[\"\\%]*) fail "a results folder $1 cannot be named to systemd" "take one without quotes, backslashes and %" ;;
    esac
}

check_named() { # --results is for new settings; where there are some, they decide
    [ -n "$results" ] && [ -e "$settings" ] || return 0
    python=$(find_python)
    named=$("$python" -c 'import sys, tomllib
print(tomllib.load(open(sys.argv[1], "rb")).get("results", {}).get("directory", ""))' "$settings" 2>/dev/null) ||
        fail "$settings cannot be read, so that --results cannot be held against it" "mend it, or leave --results away"
    [ "${named%/}" = "${results%/}" ] || fail "$settings is there, and its results.directory is ${named:-not named}, not $results" \
        "change results.directory there, then run this again without --results"
}

# ---- install

is_current() { # whether the program that is there is the one that would be copied
    [ -x "$program_dir/.venv/bin/hcs-daemon" ] && [ -e "$program_dir/.copied" ] || return 1
    [ "$source_dir" != "$program_dir" ] || return 0
    for item in $items; do
        diff -rq -x __pycache__ "$source_dir/$item" "$program_dir/$item" >/dev/null || return 1
    done
}

copy_program() {
    [ "$source_dir" != "$program_dir" ] || return 0
    run mkdir -p "$program_dir"
    for item in $items; do
        if [ -n "$dry" ]; then
            say "would copy $source_dir/$item to $program_dir/$item"
        else
            rm -rf "${program_dir:?}/$item"
            cp -R "$source_dir/$item" "$program_dir/$item"
        fi
    done
    [ -n "$dry" ] || find "$program_dir/hcs_daemon" -name __pycache__ -prune -exec rm -rf {} +
    drop "$program_dir/.copied" # not written over: the program that is kept has the same file
    put_text "$items" "$program_dir/.copied"
}

keep_program() { # names of their own for the files that run now: put back, should what comes not be installable
    drop "$kept.part"
    if [ -x "$program_dir/.venv/bin/hcs-daemon" ] && [ ! -e "$kept" ]; then
        run cp -al "$program_dir" "$kept.part"
        run mv "$kept.part" "$kept"
    fi
}

end_early() { # what an end in between leaves: the program before, running again, or services that are stopped
    if [ -n "$exchanging" ] && [ -d "$kept" ]; then
        rm -rf "$program_dir"
        mv "$kept" "$program_dir"
        for each in $stopped; do systemctl start "$each" || true; done
        say "not installed; the program that was there is back, and started again: ${stopped:-nothing}" >&2
    elif [ -n "$stopped" ]; then
        say "not finished; stopped, and to be started by another run of this: $stopped" >&2
    fi
}

install_units() {
    for name in hcs-daemon.service hcs-daemon@.service; do
        put "$source_dir/systemd/$name" "$unit_dir/$name"
    done
    put "$source_dir/systemd/sysusers.d/hcs-daemon.conf" "$root/etc/sysusers.d/hcs-daemon.conf"
    put "$source_dir/systemd/tmpfiles.d/hcs-daemon.conf" "$root/etc/tmpfiles.d/hcs-daemon.conf"
    if [ ! -e "$link" ] && [ ! -L "$link" ]; then
        run mkdir -p "$(dirname "$link")"
        run ln -s /opt/hcs-daemon/.venv/bin/hcs-daemon "$link"
    fi
}

write_settings() { # the example's, where there are none yet
    [ ! -e "$settings" ] || return 0
    fresh=yes
    example=$(cat "$source_dir/config.example.toml")
    if [ -n "$results" ]; then
        example=$(printf '%s\n' "$example" |
            awk -v line="directory = \"$results\"" '/^\[/ { here = $1 } here == "[results]" && /^directory =/ { $0 = line } 1')
    fi
    put_text "$example" "$settings"
}

written_by() { # written_by SETTINGS: results.directory, and below it the folder of http.textfile, if there is one
    as_service "$program_dir/.venv/bin/python" -c '
import pathlib, sys
from hcs_daemon.config import load_settings
from hcs_daemon.errors import HcsError
try:
    settings = load_settings(pathlib.Path(sys.argv[1]))
except HcsError as error:
    sys.exit(f"{error.message}\n{error.hint}")
print(settings.results.directory)
if settings.http.textfile:
    print(settings.http.textfile.parent)' "$1"
}

absent_mount() { # absent_mount FOLDER: the mount point it is on by /etc/fstab or a unit, if nothing is mounted there
    {
        findmnt --fstab --noheadings --list --output TARGET 2>/dev/null || true
        sed -n 's/^Where=//p' "$unit_dir"/*.mount 2>/dev/null || true
    } | while read -r mount; do
        case $1/ in "${mount%/}"/*) [ "$mount" = / ] || mountpoint -q "$mount" || say "$mount" ;; esac
    done
}

open_folders() { # open_folders UNIT FOLDERS: for the service to write in; the first, for results, is made only once
    check_results "$2"
    folder=$(printf '%s\n' "$2" | head -n 1)
    away=$(absent_mount "$folder" | tail -n 1)
    if [ -n "$away" ]; then
        say "results.directory $folder is on $away, where nothing is mounted; they would fill this machine's own disk" >&2
        say "mount it (sudo mount '$away')" >&2
        return 1
    elif [ ! -d "$folder" ] && grep -qsxF "ReadWritePaths=\"-$folder\"" "$(drop_in_of "$1")"; then
        say "results.directory $folder was there, and is there no more" >&2
        say "bring its disk back; if it is to begin anew: sudo install -d -o hcs-daemon -g hcs-daemon -m 0750 '$folder'" >&2
        return 1
    elif [ ! -d "$folder" ]; then
        run mkdir -p "$(dirname "$folder")"
        run install -d -o hcs-daemon -g hcs-daemon -m 0750 "$folder"
    fi
    put_text "# by install.sh, from results.directory and http.textfile in $(settings_of "$1")
[Service]
$(printf '%s\n' "$2" | sed 's/.*/ReadWritePaths="-&"/')" "$(drop_in_of "$1")"
}

bring_up() { # bring_up UNIT: whether it may start; its settings are tried, the results folder is opened for it
    file=$(settings_of "$1")
    say "trying $file …"
    folders=$(written_by "$file") || return 1
    open_folders "$1" "$folders" || return 1
    code=0
    as_service "$program_dir/.venv/bin/hcs-daemon" check -c "$file" || code=$?
    case " $up " in
        *" $1 "*) [ $code = 0 ] || [ $code = 4 ] ;; # it ran, and waits for a folder that is away
        *) [ $code = 0 ] ;;
    esac
}

install_all() {
    [ -n "$root" ] || check_machine
    check_named
    if [ -n "$root" ]; then
        copy_program
        install_units
        write_settings
        say "the files are below $root. On the machine itself: python3 /opt/hcs-daemon/bootstrap.py install,"
        say "edit ${settings#"$root"}, then sh /opt/hcs-daemon/systemd/install.sh"
        return
    fi
    python=$(find_python)
    up=$(running | tr '\n' ' ')
    if ! is_current; then
        keep_program
        # a program that is exchanged under a running service would be half of either version
        stopped=$up
        [ -n "$dry" ] || exchanging=yes
        trap end_early EXIT
        trap 'exit 1' HUP INT TERM
        for each in $stopped; do run systemctl stop "$each"; done
        copy_program
    fi
    run "$python" "$program_dir/bootstrap.py" install ${wheelhouse:+--wheelhouse "$wheelhouse"}
    exchanging=
    drop "$kept"
    install_units
    run systemd-sysusers /etc/sysusers.d/hcs-daemon.conf
    write_settings
    run systemd-tmpfiles --create /etc/tmpfiles.d/hcs-daemon.conf # for the settings too, which not everybody may read
    if [ -n "$dry" ]; then
        say "would try $settings, open its results.directory for the service ($(drop_in_of "$unit"))"
        say "and, if they pass: systemctl daemon-reload, enable $unit, restart $unit; start again: ${stopped:-nothing}"
        stopped=
        return
    fi
    systemctl daemon-reload
    start_all
}

start_unit() { # start_unit start|restart UNIT: what `check` does not see, such as a newer version's results, is said here
    if ! systemctl "$1" "$2"; then
        unstarted="$unstarted $2"
        say "$2 did not start. What it said last:" >&2
        journalctl -u "$2" -n 10 -o cat --no-pager >&2 || true
        return 1
    fi
}

start_all() {
    refused='' passed='' unstarted=''
    for each in $stopped; do
        if [ "$each" != "$unit" ]; then
            bring_up "$each" || refused="$refused $each"
        fi
    done
    if [ -z "$fresh" ]; then
        if bring_up "$unit"; then passed=yes; else refused="$refused $unit"; fi
    fi
    systemctl daemon-reload # for the drop-ins
    for each in $stopped; do
        case "$refused $unit " in *" $each "*) ;; *) start_unit start "$each" || true ;; esac
    done
    if [ -n "$fresh" ]; then
        say "" "installed, not started: $settings is the example's."
        say "Next: edit it, then run this again; it tries the settings and starts $unit."
    elif [ -n "$passed" ]; then
        systemctl enable "$unit"
        ! start_unit restart "$unit" ||
            say "" "$unit is started. systemctl status $unit, journalctl -u $unit, sudo $link status -c $settings"
    fi
    stopped=
    if [ -n "$refused" ]; then
        say "left as they are, for their settings do not pass:$refused" >&2
        say "Mend what is said above, then run this again." >&2
    fi
    [ -z "$refused$unstarted" ] || exit 1
}

# ---- uninstall

units_there() { # every unit of ours that may be up or enabled
    if [ -n "$instrument" ]; then
        say "$unit"
        return
    fi
    {
        [ ! -e "$unit_dir/hcs-daemon.service" ] || say hcs-daemon.service
        running
        for enabled in "$unit_dir"/multi-user.target.wants/hcs-daemon@*.service; do
            [ ! -L "$enabled" ] || basename "$enabled"
        done
    } | sort -u
}

remove_drop_in() { # remove_drop_in UNIT
    drop "$(drop_in_of "$1")"
    [ ! -d "$unit_dir/$1.d" ] || [ -n "$dry" ] || rmdir "$unit_dir/$1.d" 2>/dev/null || true # others' stay
}

remove_program() {
    drop "$kept" "$kept.part"
    drop "$program_dir/.venv"
    if [ -e "$program_dir/.copied" ]; then
        tr ' ' '\n' <"$program_dir/.copied" | while read -r item; do drop "$program_dir/$item"; done
        drop "$program_dir/.copied"
        [ -n "$dry" ] || rmdir "$program_dir" 2>/dev/null || say "left, for something else is in it: $program_dir"
    else
        say "left, for it was not copied there by this: $program_dir"
    fi
}

uninstall_all() {
    if [ -z "$root" ]; then
        check_machine
        for each in $(units_there); do
            run systemctl disable --now "$each"
        done
    fi
    if [ -n "$instrument" ]; then
        remove_drop_in "$unit"
    else
        for conf in "$unit_dir"/hcs-daemon.service.d "$unit_dir"/hcs-daemon@*.service.d; do
            [ ! -d "$conf" ] || remove_drop_in "$(basename "$conf" .d)"
        done
        drop "$unit_dir/hcs-daemon.service" "$unit_dir/hcs-daemon@.service"
        drop "$root/etc/sysusers.d/hcs-daemon.conf" "$root/etc/tmpfiles.d/hcs-daemon.conf"
        [ "$(readlink "$link")" != /opt/hcs-daemon/.venv/bin/hcs-daemon ] || drop "$link"
        [ ! -d "$program_dir" ] || remove_program
    fi
    [ -n "$root" ] || run systemctl daemon-reload
    say "left as they are: settings in $settings_dir, results, /var/lib/hcs-daemon, /var/cache/hcs-daemon, the user hcs-daemon"
}

# ---- what is asked for

action=install instrument='' results='' wheelhouse='' root='' dry='' fresh='' up='' stopped='' exchanging=''
case ${1:-} in install | uninstall) action=$1 && shift ;; esac
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage && exit 0 ;;
        --dry-run) dry=yes && shift ;;
        --instrument | --results | --wheelhouse | --root)
            [ -n "${2:-}" ] || fail "$1 wants a value" "systemd/install.sh --help"
            case $1 in
                --instrument) instrument=$2 ;;
                --results) results=$2 ;;
                --wheelhouse) wheelhouse=$2 ;;
                --root) root=$2 ;;
            esac
            shift 2
            ;;
        *) fail "what is $1?" "systemd/install.sh --help" ;;
    esac
done
case $instrument in
    config) fail "--instrument config would share the settings of hcs-daemon.service" "take another name" ;;
    *[!A-Za-z0-9_-]* | -*) fail "--instrument $instrument is no name for a service" "letters, digits, - and _ only" ;;
esac
for folder in "$results" "$wheelhouse" "$root"; do
    case $folder in '' | /*) ;; *) fail "$folder is not a whole path" "begin it with /" ;; esac
done
[ -z "$wheelhouse" ] || [ -d "$wheelhouse" ] || fail "--wheelhouse $wheelhouse is not a folder" \
    "make one where there is a network: python3 bootstrap.py wheelhouse FOLDER"
check_results "$results"

unit=hcs-daemon.service name=config
[ -z "$instrument" ] || unit=hcs-daemon@$instrument.service name=$instrument
program_dir=$root/opt/hcs-daemon
kept=$program_dir.old
settings_dir=$root/etc/hcs-daemon
unit_dir=$root/etc/systemd/system
link=$root/usr/local/bin/hcs-daemon
settings=$settings_dir/$name.toml

"${action}_all"
