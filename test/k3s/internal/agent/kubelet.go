package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/process"
)

// startKubelet writes the kubelet's configuration and runs it.
func (a *Agent) startKubelet() error {
	resolv, err := a.resolvConf()
	if err != nil {
		return err
	}
	driver := "cgroupfs"
	if underSystemd() {
		driver = "systemd"
	}
	type object = map[string]any
	b, err := json.Marshal(object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"address":    "0.0.0.0",
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true, "cacheTTL": "2m0s"},
			"x509":      object{"clientCAFile": a.path("client-ca.crt")},
		},
		"authorization":            object{"mode": "Webhook"},
		"cgroupDriver":             driver,
		"clusterDNS":               a.reply.ClusterDNS,
		"clusterDomain":            a.reply.ClusterDomain,
		"containerRuntimeEndpoint": "unix://" + socket,
		"evictionHard":             object{"imagefs.available": "5%", "nodefs.available": "5%"},
		"evictionMinimumReclaim":   object{"imagefs.available": "10%", "nodefs.available": "10%"},
		"failSwapOn":               false,
		"healthzBindAddress":       "127.0.0.1",
		// Airgap images that no pod uses yet must not be collected.
		"imageGCHighThresholdPercent": 100,
		"providerID":                  "k3s://" + a.NodeName,
		"protectKernelDefaults":       a.Config.ProtectDefaults,
		"resolvConf":                  resolv,
		"runtimeRequestTimeout":       "10m",
		"serializeImagePulls":         false,
		"staticPodPath":               a.path("pod-manifests"),
		"tlsCertFile":                 a.path("serving-kubelet.crt"),
		"tlsPrivateKeyFile":           a.path("serving-kubelet.key"),
		"volumePluginDir":             "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
	})
	if err != nil {
		return err
	}
	if b, err = yaml.JSONToYAML(b); err != nil {
		return err
	}
	path := a.path("etc/kubelet.conf")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	labels := append([]string{"node.kubernetes.io/instance-type=k3s"}, a.Config.NodeLabels...)
	args := []string{
		"--config=" + path,
		"--kubeconfig=" + a.path("kubelet.kubeconfig"),
		"--hostname-override=" + a.NodeName,
		"--node-ip=" + a.NodeIP,
		"--node-labels=" + strings.Join(labels, ","),
	}
	if len(a.Config.NodeTaints) > 0 {
		args = append(args, "--register-with-taints="+strings.Join(a.Config.NodeTaints, ","))
	}
	a.Children.Start(process.Child{Name: "kubelet", Path: process.Self, Args: append(args, flags(a.Config.KubeletArgs)...)})
	return nil
}

func (a *Agent) startProxy() {
	args := []string{
		"--cluster-cidr=" + a.reply.ClusterCIDR,
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-close-wait=0s",
		"--conntrack-tcp-timeout-established=0s",
		"--healthz-bind-address=127.0.0.1",
		"--hostname-override=" + a.NodeName,
		"--kubeconfig=" + a.path("kubeproxy.kubeconfig"),
		"--proxy-mode=iptables",
	}
	a.Children.Start(process.Child{Name: "kube-proxy", Path: process.Self, Args: append(args, flags(a.Config.KubeProxyArgs)...)})
}

func flags(extra []string) []string {
	out := make([]string, 0, len(extra))
	for _, e := range extra {
		out = append(out, "--"+strings.TrimLeft(e, "-"))
	}
	return out
}

// resolvConf is the file from which pods get their name servers: the first of
// the host's that names one a pod can reach, otherwise k3s' own default.
func (a *Agent) resolvConf() (string, error) {
	if a.Config.ResolvConf != "" {
		return a.Config.ResolvConf, nil
	}
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		ok, err := reachableNameServer(path)
		if err != nil {
			return "", err
		}
		if ok {
			return path, nil
		}
	}
	path := filepath.Join(a.dir, "etc", "resolv.conf")
	return path, os.WriteFile(path, []byte("nameserver 8.8.8.8\n"), 0o644)
}

func reachableNameServer(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	found := false
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		ip := net.ParseIP(fields[1])
		if ip == nil || !ip.IsGlobalUnicast() {
			return false, nil
		}
		found = true
	}
	return found, nil
}
