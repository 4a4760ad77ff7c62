//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/rhizome-dev/rhizome/test/lab"
)

// file is a URL and its digest, as manifests have it.
type file struct{ URL, SHA256 string }

// release is what the cluster's machines run.
type release struct {
	Version string
	Binary  file
	Images  []file
}

var repositoryTemplate = template.Must(template.New("lab.yaml").Parse(`# What the lab declares. Written by ` + "`lab up`" + `.
apiVersion: rhizome.dev/v1alpha1
kind: Cluster
metadata:
  name: lab
spec:
  network:
    cidr: {{.State.LAN}}
    gateway: {{.State.Gateway}}
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
    loader: {{.Loader}}
---
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: debian
spec:
  format: Image
  media:
    - architecture: amd64
      url: {{.Image.URL}}
      sha256: {{.Image.SHA256}}
  kernelArguments:
    - console=ttyS0,115200n8
{{- range .State.Machines}}
---
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata:
  name: {{.Name}}
spec:
  role: ControlPlane
  mac: {{.MAC}}
  address: {{.Address}}
  disk:
    serial: {{.Disk}}
{{- end}}
`))

// writeRepository writes the manifests of the lab into dir.
func writeRepository(dir string, s state, r release, image lab.OSImage, loader string) error {
	var out bytes.Buffer
	err := repositoryTemplate.Execute(&out, map[string]any{
		"State": s, "Release": r, "Loader": loader,
		"Image": file{URL: "file://" + image.Path, SHA256: image.SHA256},
	})
	if err != nil {
		return fmt.Errorf("cannot write the lab's manifests: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "lab.yaml"), out.Bytes(), 0o600)
}
