#!/bin/sh
# Turns waking by magic packet on for the interface with this machine's declared
# MAC. Hardware that cannot be woken is not an error: it is turned on by hand.
set -eu
mac=@MAC@
net=${RHIZOME_ROOT:-}/sys/class/net

for interface in "$net"/*; do
    name=${interface##*/}
    if [ ! -e "$interface/address" ] || [ "$(cat "$interface/address")" != "$mac" ]; then
        continue
    fi
    # A bridge or bond has its port's address: only hardware has a device.
    if [ ! -e "$interface/device" ]; then
        continue
    fi
    if ! command -v ethtool >/dev/null; then
        echo "rhizome: ethtool is not installed: cannot make sure that $name wakes by magic packet"
        exit 0
    fi
    if ethtool -s "$name" wol g; then
        echo "rhizome: $name wakes by magic packet"
    else
        echo "rhizome: $name cannot be woken by magic packet"
    fi
    exit 0
done
echo "rhizome: no interface has the address $mac"
