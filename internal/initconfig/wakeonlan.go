package initconfig

import (
	_ "embed"
	"strings"
)

//go:embed wakeonlan.sh
var wakeOnLANScript string

const (
	wakeOnLANPath = "/usr/local/sbin/rhizome-wake-on-lan"
	wakeOnLANUnit = `[Unit]
Description=Let this machine be woken by a magic packet (Rhizome)
After=network.target

[Service]
Type=oneshot
ExecStart=` + wakeOnLANPath + `

[Install]
WantedBy=multi-user.target
`
)

// wakeOnLAN keeps waking enabled at every boot: drivers forget it, and not every
// network configuration honours a setting for it.
func wakeOnLAN(mac string) (File, Unit) {
	script := strings.ReplaceAll(wakeOnLANScript, "@MAC@", strings.ToLower(mac))
	return File{Path: wakeOnLANPath, Content: []byte(script), Mode: 0o755},
		Unit{Name: "rhizome-wake-on-lan.service", Content: wakeOnLANUnit, Start: true}
}
