# shellcheck shell=sh
# Chooses the disk before the partitioner looks at any.
here=${RHIZOME_DIR:-/tmp/rhizome}
if disk=$("$here/rhizome-installer" disk); then
    debconf-set partman-auto/disk "$disk"
    debconf-set grub-installer/bootdev "$disk"
    exit 0
fi
"$here/rhizome-installer" failed "$(cat "$here/reason")"
sleep 60
reboot
# The partitioner, left alone, would take the only disk that there is.
while :; do
    sleep 60
done
