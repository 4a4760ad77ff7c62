# shellcheck shell=sh
# Tells the PXE service where the Debian Installer is, by its log, and when it has
# failed or waits for somebody.
here=${RHIZOME_DIR:-/tmp/rhizome}
log=${RHIZOME_LOG:-/var/log/syslog}
pause=${RHIZOME_PAUSE:-5}
seen=
size=0
quiet=0

give_up() {
    "$here/rhizome-installer" failed "$1"
    sleep 60
    reboot
    exit 1
}

while [ ! -e "$here/over" ]; do
    failed=$(sed -n "s/.*main-menu.*Menu item '\([^']*\)' failed.*/\1/p" "$log" | tail -n 1)
    if [ -n "$failed" ]; then
        give_up "the Debian Installer's step $failed failed: $(grep -v main-menu "$log" | tail -n 5)"
    fi
    step=$(sed -n "s/.*main-menu.*Menu item '\([^']*\)' selected.*/\1/p" "$log" | tail -n 1)
    if [ "$step" != "$seen" ]; then
        seen=$step
        "$here/rhizome-installer" report "$step" "the Debian Installer is at $step" 2>/dev/null
    fi
    # It would wait at its console for another mirror.
    if grep -q 'choose-mirror.*does not support the specified release' "$log"; then
        give_up "the Debian Installer finds no release at the mirror, which is packages in the OperatingSystem's spec.media: $(grep choose-mirror "$log" | grep -v DEBUG | tail -n 2)"
    fi
    before=$size
    size=$(wc -c <"$log")
    quiet=$((quiet + 1))
    if [ "$size" != "$before" ]; then
        quiet=0
    fi
    if [ "$quiet" -ge 360 ]; then
        give_up "the Debian Installer has said nothing for half an hour at $step: it may wait for an answer on its console"
    fi
    sleep "$pause"
done
