package crds_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// The good objects: together they set every field of every spec, so that every
// rule has something to say yes to, and every bad object is one of these with one
// thing changed.
var good = map[string]string{
	"cluster": `
apiVersion: rhizome.dev/v1alpha1
kind: Cluster
metadata: {name: home}
spec:
  network:
    cidr: 192.168.1.0/24
    gateway: 192.168.1.1
    nameservers: [192.168.1.1, 9.9.9.9]
    dhcp: Server
    dhcpPool: 192.168.1.128/27
    segments:
    - cidr: 192.168.9.0/24
      gateway: 192.168.9.1
  controlPlane:
    virtualIP: 192.168.1.5
    virtualIPImage: ghcr.io/kube-vip/kube-vip:v0.9.2
    extraNames: [k8s.example.org, "*.home.example.org", 203.0.113.7]
  kubernetes:
    version: v1.33.5+k3s1
    files:
    - architecture: amd64
      binary:
        url: https://example.org/k3s%2Bk3s1/k3s
        sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
      images:
      - url: file:///srv/k3s-airgap-images-amd64.tar.zst
        sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    podCIDR: 10.42.0.0/16
    serviceCIDR: 10.43.0.0/16
    disable: [servicelb, traefik, metrics-server]
  operatingSystem: debian-13
  loadBalancerPool: 192.168.1.224/27
  sshKeys:
  - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPlJ4pDkUlFmZcIdGkbcs6WQPbiMvaFA5OQMeE4OPnU9 you@home
  - ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBNmq5CZi0f9ZAa0BzZkBzZkBzZkBzQ==
  - sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIH0= key with a comment
  pxe:
    loader: GRUB
    afterInstall: Kexec
    claimTTL: 1h30m
    maxAttempts: 5
    pods: Always
    nodeSelector: {rack: a}
  growth:
    maxConcurrent: 9
    joinTimeout: 45m
    drainTimeout: 5m
  healing:
    mode: Enabled
    unhealthyAfter: 15m
    maxUnhealthyPercent: 25
    coolDown: 1h
    reboot: {timeout: 5m, tries: 2}
    power: {timeout: 12m, tries: 3}
    reinstall: {timeout: 2h, tries: 0}
    maxReinstallsPerDay: 2
    maintenanceWindows:
    - {days: [Saturday, Sunday], from: "22:00", to: "05:30", timeZone: Europe/Berlin}
`,
	"operatingsystem": `
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata: {name: debian-13}
spec:
  format: Image
  media:
  - architecture: amd64
    url: https://example.org/images/debian-13-genericcloud-amd64.qcow2.xz
    sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    compression: XZ
  - architecture: arm64
    url: http://[2001:db8::1]:8080/debian.raw?token=a%20b
    sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
  kernelArguments: ["console=ttyS0,115200n8", "console=tty0", quiet]
  template: {name: cloud-config}
`,
	"kickstart": `
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata: {name: fedora-42}
spec:
  format: Kickstart
  media:
  - architecture: amd64
    files:
    - path: images/pxeboot/vmlinuz
      url: https://example.org/os/images/pxeboot/vmlinuz
      sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    - path: boot/initrd.img
      url: https://example.org/os/images/pxeboot/initrd.img
    - path: images/install.img
      url: file:///srv/install.img
    kernel: images/pxeboot/vmlinuz
    initrd: boot/initrd.img
    packages: https://example.org/os
`,
	"node": `
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata: {name: alpha}
spec:
  role: ControlPlane
  mac: 52:54:00:12:34:56
  address: 192.168.1.10
  architecture: amd64
  disk:
    path: /dev/disk/by-id/nvme-Samsung_SSD_980_S64DNL0T824555
    serial: S64DNL0T824555 X
    wwn: eui.002538d4214141d7
    minSize: 100Gi
    maxSize: 2T
  power:
    wakeOnLAN: {mac: "52:54:00:12:34:57"}
  operatingSystem: debian-13
  labels:
    example.org/rack: a1
    node.kubernetes.io/instance-type: nuc
    topology.kubernetes.io/zone: cellar
    quiet: ""
  taints:
  - {key: example.org/dedicated, value: storage, effect: NoSchedule}
  - {key: example.org/dedicated, effect: NoExecute}
  boot:
    loader: IPXE
    afterInstall: Restart
    local: SANBoot
  healing:
    mode: DryRun
    storage: Disposable
`,
	"node with a board management controller": `
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata: {name: beta}
spec:
  role: Worker
  mac: 52:54:00:12:34:58
  address: 192.168.1.11
  power:
    redfish:
      endpoint: https://192.168.1.21:8443/redfish
      systemID: System.Embedded.1
      credentials: {name: beta-bmc}
      fingerprint: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
`,
	"node on a smart plug": `
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata: {name: gamma}
spec:
  role: Worker
  mac: 52:54:00:12:34:59
  address: 192.168.1.12
  power:
    webhook:
      url: https://plugs.example.org:8443/power/gamma
      credentials: {name: plugs}
      fingerprint: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
`,
	"gitops": `
apiVersion: rhizome.dev/v1alpha1
kind: GitOps
metadata: {name: home}
spec:
  argoCD:
    repository: https://argoproj.github.io/argo-helm
    chart: argo-cd
    version: 7.9.1
    namespace: argocd
    values: {configs: {params: {server.insecure: true}}, replicas: 2}
  source: Auto
  seed:
    url: https://github.com/you/homelab.git
    branch: main
    credentials: {name: github}
  home:
    url: http://gitea-http.gitea:3000
    owner: home
    repository: homelab
    credentials: {name: gitea-admin}
    layer: system
    pushMirror:
      credentials: {name: github-push}
      interval: 1h30m
  layers:
  - {name: system, path: "system/*", removal: Keep}
  - {name: apps, path: apps, dependsOn: [system], removal: Delete}
`,
}

// object decodes one of the good objects.
func object(t *testing.T, name string) *unstructured.Unstructured {
	t.Helper()
	text, ok := good[name]
	if !ok {
		t.Fatalf("there is no good object %q", name)
	}
	var u unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatalf("good object %q: %v", name, err)
	}
	return &u
}

// remove as a new value takes the field away.
type remove struct{}

// at is a step of a field's path: a key of a map or an index of a list.
type at struct {
	key   string
	index int // -1: a key
}

// steps reads a path such as spec.media[0].url, or spec.labels[example.org/rack].
func steps(path string) []at {
	var all []at
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			end := strings.IndexByte(path, ']')
			inner := path[1:end]
			if i, err := strconv.Atoi(inner); err == nil {
				all = append(all, at{index: i})
			} else {
				all = append(all, at{key: inner, index: -1})
			}
			path = path[end+1:]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			all = append(all, at{key: path[:end], index: -1})
			path = path[end:]
		}
	}
	return all
}

// set changes the field at path. Missing maps on the way are made; a list's index
// must be there, or be the one behind its end.
func set(u *unstructured.Unstructured, path string, value any) error {
	changed, err := setIn(u.Object, steps(path), value)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	u.Object = changed.(map[string]any)
	return nil
}

func setIn(node any, path []at, value any) (any, error) {
	if len(path) == 0 {
		return runtime.DeepCopyJSONValue(value), nil
	}
	step := path[0]
	_, gone := value.(remove)
	if step.index >= 0 {
		list, ok := node.([]any)
		if !ok || step.index > len(list) {
			return nil, fmt.Errorf("there is no list with an index %d", step.index)
		}
		if step.index == len(list) {
			list = append(list, nil)
		}
		inner, err := setIn(list[step.index], path[1:], value)
		list[step.index] = inner
		return list, err
	}
	if node == nil {
		node = map[string]any{}
	}
	m, ok := node.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%q is not within a map", step.key)
	}
	if gone && len(path) == 1 {
		delete(m, step.key)
		return m, nil
	}
	inner, err := setIn(m[step.key], path[1:], value)
	if err != nil {
		return nil, err
	}
	m[step.key] = inner
	return m, nil
}

// get returns the value at path, if there is one.
func get(u *unstructured.Unstructured, path string) (any, bool) {
	var node any = u.Object
	for _, step := range steps(path) {
		if step.index >= 0 {
			list, ok := node.([]any)
			if !ok || step.index >= len(list) {
				return nil, false
			}
			node = list[step.index]
			continue
		}
		m, ok := node.(map[string]any)
		if !ok {
			return nil, false
		}
		if node, ok = m[step.key]; !ok {
			return nil, false
		}
	}
	return node, true
}
