//go:build linux

// Package repository writes the manifests that a lab's cluster is seeded from, and
// the git repository that it follows afterwards.
package repository

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
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
	// GitOps is what the cluster follows. Nil: nothing, it stays as it was seeded.
	GitOps *GitOps
	// Loader is the boot loader's policy. Empty: Auto.
	Loader string
	// AtOnce is how many machines are installed at once. Zero: as many as a Cluster
	// allows by default.
	AtOnce int
	// AfterInstall is the way into a new system. Empty: Restart.
	AfterInstall string
	// URL says where machines and the bootstrapper get a file of the host from.
	// Nil: a file URL, which only the bootstrapper understands.
	URL func(path string) string
}

// At is the URL of a file, given as a path or a file URL.
func (o Options) At(file string) string {
	path := strings.TrimPrefix(file, "file://")
	if o.URL == nil {
		return "file://" + path
	}
	return o.URL(path)
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

// keep makes Argo CD leave an object alone whose file goes: what a machine is does
// not depend on a file that was lost.
const keep = "{argocd.argoproj.io/sync-options: 'Prune=false,Delete=false'}"

// Keep is the annotations of an object that stays when its file goes.
func (Options) Keep() string { return keep }

// Keep is the annotations of an object that stays when its file goes.
func (Node) Keep() string { return keep }

var cluster = template.Must(template.New("cluster.yaml").Parse(`# What the lab declares.
apiVersion: rhizome.dev/v1alpha1
kind: Cluster
metadata:
  name: lab
  annotations: {{.Keep}}
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
          url: {{.At .Release.Binary.URL}}
          sha256: {{.Release.Binary.SHA256}}
        images:
{{- range .Release.Images}}
          - url: {{$.At .URL}}
            sha256: {{.SHA256}}
{{- end}}
  operatingSystem: debian
  pxe:
    loader: {{or .Loader "Auto"}}
    afterInstall: {{or .AfterInstall "Restart"}}
{{- if .AtOnce}}
  growth:
    maxConcurrent: {{.AtOnce}}
{{- end}}
---
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: debian
  annotations: {{.Keep}}
spec:
  format: Image
  media:
    - architecture: amd64
      url: {{.At .Image.Path}}
      sha256: {{.Image.SHA256}}
  kernelArguments:
    - console=ttyS0,115200n8
`))

var node = template.Must(template.New("node.yaml").Parse(`apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata:
  name: {{.Name}}
  annotations: {{.Keep}}
spec:
  role: {{or .Role "ControlPlane"}}
  mac: {{.MAC}}
  address: {{.Address}}
{{- if .Serial}}
  disk:
    serial: {{.Serial}}
{{- end}}
`))

// Write writes the manifests into dir, which is made if need be: cluster.yaml,
// gitops.yaml if the cluster follows something, and a file for each node.
func Write(dir string, options Options, nodes ...Node) error {
	if err := write(filepath.Join(dir, "cluster.yaml"), cluster, options); err != nil {
		return err
	}
	if options.GitOps != nil {
		if err := write(filepath.Join(dir, "gitops.yaml"), gitops, options.GitOps); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if err := WriteNode(dir, n); err != nil {
			return err
		}
	}
	return nil
}

// NodeFile is the name of the file of a node's manifest.
func NodeFile(name string) string { return name + ".yaml" }

// WriteNode writes the manifest of one more node.
func WriteNode(dir string, n Node) error {
	return write(filepath.Join(dir, NodeFile(n.Name)), node, n)
}

func write(path string, t *template.Template, values any) error {
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return fmt.Errorf("cannot write the lab's manifests: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o600)
}
