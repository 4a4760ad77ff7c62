//go:build linux

// Package repository writes the manifests that a lab's cluster is seeded from.
package repository

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"github.com/rhizome-dev/rhizome/test/lab"
)

// Options are what the manifests say beside the nodes.
type Options struct {
	// LAN and Gateway are the lab's network.
	LAN     netip.Prefix
	Gateway netip.Addr
	// Release is the k3s that machines run, and Image their operating system.
	Release Release
	Image   lab.OSImage
	// Loader is the boot loader's policy. Empty: Auto.
	Loader string
}

// Node is a declared machine.
type Node struct {
	Name    string
	Role    string // empty: ControlPlane
	MAC     string
	Address string
	// Serial number of the disk to install on. Empty: no hint.
	Serial string
}

var manifests = template.Must(template.New("lab.yaml").Parse(`# What the lab declares.
apiVersion: rhizome.dev/v1alpha1
kind: Cluster
metadata:
  name: lab
spec:
  network:
    cidr: {{.LAN}}
    gateway: {{.Gateway}}
    dhcp: Proxy
  kubernetes:
    version: {{.Release.Version}}
    files:
      - architecture: amd64
        binary:
          url: {{.Release.Binary.URL}}
          sha256: {{.Release.Binary.SHA256}}
        images:
{{- range .Release.Images}}
          - url: {{.URL}}
            sha256: {{.SHA256}}
{{- end}}
  operatingSystem: debian
  pxe:
    loader: {{or .Loader "Auto"}}
---
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: debian
spec:
  format: Image
  media:
    - architecture: amd64
      url: file://{{.Image.Path}}
      sha256: {{.Image.SHA256}}
  kernelArguments:
    - console=ttyS0,115200n8
{{- range .Nodes}}
---
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata:
  name: {{.Name}}
spec:
  role: {{or .Role "ControlPlane"}}
  mac: {{.MAC}}
  address: {{.Address}}
{{- if .Serial}}
  disk:
    serial: {{.Serial}}
{{- end}}
{{- end}}
`))

// Write writes the manifests into dir, which is made if need be.
func Write(dir string, options Options, nodes ...Node) error {
	var out bytes.Buffer
	err := manifests.Execute(&out, struct {
		Options
		Nodes []Node
	}{options, nodes})
	if err != nil {
		return fmt.Errorf("cannot write the lab's manifests: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "lab.yaml"), out.Bytes(), 0o600)
}
