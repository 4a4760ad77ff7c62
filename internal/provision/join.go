package provision

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/initconfig"
	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// Where the parts of the join lie on the installed system. join.sh has them too.
const (
	joinScriptPath = "/usr/local/sbin/rhizome-join"
	joinConfigPath = "/etc/rhizome/join.conf"
	joinCAPath     = "/etc/rhizome/pxe-ca.pem"
	joinClaimPath  = "/var/lib/rhizome/claim"
	joinedPath     = "/var/lib/rhizome/joined"
	joinUnitName   = "rhizome-join.service"
)

//go:embed join.sh
var joinScript []byte

// joinUnit runs the script until it succeeds, once in the life of an
// installation. Not a oneshot unit: those may not be restarted on failure before
// systemd 244.
const joinUnit = `[Unit]
Description=Make this machine a member of its cluster (Rhizome)
ConditionPathExists=!` + joinedPath + `
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=` + joinScriptPath + `
Restart=on-failure
RestartSec=10
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

// joinParts are the files and units that make a member of an installed system.
func joinParts(node *v1alpha1.Node, claim Claim, service Service, media []Medium) ([]initconfig.File, []initconfig.Unit, error) {
	unit := initconfig.Unit{Name: k3s.AgentUnitName, Content: k3s.AgentUnit()}
	if node.Spec.Role == v1alpha1.ControlPlane {
		unit = initconfig.Unit{Name: k3s.ServerUnitName, Content: k3s.ServerUnit()}
	}
	config, err := joinConfig(service, unit.Name, media)
	if err != nil {
		return nil, nil, fmt.Errorf("Node/%s: %w", node.Name, err)
	}
	files := append([]initconfig.File{
		{Path: joinScriptPath, Content: joinScript, Mode: 0o755},
		{Path: joinConfigPath, Content: config},
		{Path: joinCAPath, Content: service.CA},
		// A header line, so that curl reads it from the file.
		{Path: joinClaimPath, Content: []byte("Authorization: Bearer " + claim.ID + "\n"), Mode: 0o600},
	}, kernelFiles()...)
	return files, []initconfig.Unit{
		unit, // the join enables it, once there is something to run
		{Name: joinUnitName, Content: joinUnit, Start: true},
	}, nil
}

// joinConfig is what join.sh reads: words between blanks, one order a line.
func joinConfig(service Service, unit string, media []Medium) ([]byte, error) {
	var out strings.Builder
	fmt.Fprintln(&out, "# What rhizome-join does: see there.")
	line := func(words ...string) error {
		for _, w := range words {
			if w == "" || strings.ContainsAny(w, " \t\n\r\\") {
				return fmt.Errorf("cannot write the join's config: %q holds a blank or a backslash, or is empty", w)
			}
		}
		fmt.Fprintln(&out, strings.Join(words, " "))
		return nil
	}
	lines := [][]string{{"unit", unit}, {"secure", service.SecureURL}}
	for _, other := range service.Others {
		lines = append(lines, []string{"secure", other.SecureURL})
	}
	file := func(m Medium, mode, path string) []string {
		words := []string{"file", m.SHA256, mode, path, service.BaseURL + m.Path()}
		for _, other := range service.Others {
			words = append(words, other.BaseURL+m.Path())
		}
		return words
	}
	for _, m := range media {
		switch m.Kind {
		case KindBinary:
			lines = append(lines, file(m, "0755", k3s.BinaryPath))
		case KindArchive:
			path, err := k3s.ImagePath(m.Name)
			if err != nil {
				return nil, err
			}
			lines = append(lines, file(m, "0644", path))
		}
	}
	for _, words := range lines {
		if err := line(words...); err != nil {
			return nil, err
		}
	}
	return []byte(out.String()), nil
}
