"""What stands in for systemd and for a person's editor in a tree where neither can run: shell scripts."""

from pathlib import Path

SCRIPTS = {
    # starts the unit's program as the unit's user, as systemd would, and comes back when it is ready
    "systemctl": r"""
        for unit; do :; done # the last word
        unit=${unit%.service}
        settings=/etc/hcs-daemon/$(case $unit in *@*) echo "${unit#*@}" ;; *) echo config ;; esac).toml
        is_up() { # and not one that has ended and that nobody takes note of
            grep -qs '^State:.[^Z]' "/proc/$(cat "/run/$unit.pid" 2>/dev/null)/status"
        }
        end() {
            ! is_up || kill "$(cat "/run/$unit.pid")"
            while is_up; do sleep 0.2; done
            rm -f "/run/$unit.pid"
        }
        case $1 in
            list-units) for pid in /run/hcs-daemon*.pid; do
                [ ! -e "$pid" ] || echo "$(basename "$pid" .pid).service loaded active running"; done ;;
            start | restart)
                [ "$1" = start ] || end
                if ! is_up; then
                    setpriv --reuid=hcs-daemon --regid=hcs-daemon --init-groups \
                        /opt/hcs-daemon/.venv/bin/hcs-daemon run -c "$settings" >"/run/$unit.log" 2>&1 &
                    echo $! >"/run/$unit.pid"
                fi
                until hcs-daemon status -c "$settings" >/dev/null; do is_up && sleep 1 || exit 1; done ;;
            stop | disable) end ;;
            status) cat "/run/$unit.pid" ;;
            enable | daemon-reload) ;;
            *) echo "systemctl $*" >&2; exit 1 ;;
        esac
    """,
    "journalctl": 'cat "/run/$2.log"',
    # the demonstration's settings, with folders and a port for each instrument
    "editor": r"""
        name=$(basename "$1" .toml)
        sed -i -e 's/^package = .*/package = "demo"/' -e '/^ignore_channels/d' -e 's/^min_free_bytes.*//' \
            -e 's/^channels = .*/channels = { DNA = "1", ER = "2", RNA = "3", AGP = "4", Mito = "5" }/' \
            -e "s|/data/results|/srv/$name|" "$1"
        [ "$name" = config ] || sed -i 's/^port = .*/port = 9465/' "$1"
    """,
}


def put_stand_ins(tree: Path) -> None:
    """Where they come before what they stand for; the tree then counts as one that systemd runs."""
    for name, script in SCRIPTS.items():
        path = tree / "usr" / "local" / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)
    (tree / "run" / "systemd" / "system").mkdir(parents=True)
