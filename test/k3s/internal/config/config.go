// Package config reads what `k3s server` and `k3s agent` are told: flags,
// environment and config.yaml, whose keys are the flags.
//
// It is stricter than k3s in one point: k3s skips a key that it does not know
// and says so in its log; here it is an error, so that a test finds it.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Config is what one invocation of `k3s server` or `k3s agent` was told.
// Zero values mean "not given" except where a default is documented by k3s.
type Config struct {
	Server bool // `k3s server`, otherwise `k3s agent`

	DataDir     string
	BindAddress string
	HTTPSPort   int
	LBPort      int

	AdvertiseAddress string
	TLSSANs          []string

	ClusterCIDR     []string
	ServiceCIDR     []string
	ClusterDNS      []string
	ClusterDomain   string
	NodePortRange   string
	FlannelBackend  string
	Token           string
	AgentToken      string
	ServerURL       string
	ClusterInit     bool
	Kubeconfig      string
	KubeconfigMode  fs.FileMode
	Disable         []string
	EtcdMetrics     bool
	EncryptSecrets  bool
	DisableAgent    bool
	DisableProxy    bool
	DisableSched    bool
	EtcdArgs        []string
	APIServerArgs   []string
	ControllerArgs  []string
	SchedulerArgs   []string
	KubeletArgs     []string
	KubeProxyArgs   []string
	ProtectDefaults bool

	NodeName    string
	NodeIP      []string
	NodeLabels  []string
	NodeTaints  []string
	ResolvConf  string
	PauseImage  string
	Snapshotter string

	// Inert lists the flags that were given and have no effect in the
	// stand-in, for its log.
	Inert []string
	// Critical holds the settings that must be the same on all servers of a
	// cluster (https://docs.k3s.io/cli/server#critical-configuration-values).
	Critical map[string]string
}

// criticalFlags are the settings that k3s compares when a server joins.
var criticalFlags = []string{
	"agent-token", "cluster-cidr", "cluster-dns", "cluster-domain", "disable",
	"disable-cloud-controller", "disable-helm-controller", "disable-kube-proxy",
	"disable-network-policy", "egress-selector-mode", "flannel-backend",
	"flannel-external-ip", "flannel-ipv6-masq", "secrets-encryption", "service-cidr",
}

// Load reads args (without program and command name), the environment through
// getenv, and the config file that they name. A config file that was not
// named explicitly may be absent.
func Load(isServer bool, args []string, getenv func(string) string) (*Config, error) {
	cmd, name := agent, "agent"
	if isServer {
		cmd, name = server, "server"
	}
	set := flagSet(cmd, name)
	if err := set.Parse(args); err != nil {
		return nil, fmt.Errorf("k3s %s: %w", name, err)
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("k3s %s: unexpected argument %q", name, set.Arg(0))
	}
	fromArgs := map[string]bool{}
	set.Visit(func(f *pflag.Flag) { fromArgs[f.Name] = true })

	path := set.Lookup("config").Value.String()
	explicit := fromArgs["config"]
	if env := getenv("K3S_CONFIG_FILE"); env != "" && !explicit {
		path, explicit = env, true
	}
	given, err := readFiles(path, explicit)
	if err != nil {
		return nil, err
	}
	if err := given.check(cmd, name); err != nil {
		return nil, err
	}
	for _, key := range given.keys() {
		if fromArgs[key] {
			continue
		}
		for _, v := range given[key].values {
			if err := set.Set(key, v); err != nil {
				return nil, fmt.Errorf("%s: key %q: %w", given[key].file, key, err)
			}
		}
	}
	for _, f := range flags {
		if f.env == "" || f.name == "config" || f.command&cmd == 0 || set.Changed(f.name) {
			continue
		}
		if v := getenv(f.env); v != "" {
			if err := set.Set(f.name, v); err != nil {
				return nil, fmt.Errorf("environment %s: %w", f.env, err)
			}
		}
	}
	return build(cmd, set)
}

func flagSet(cmd command, name string) *pflag.FlagSet {
	set := pflag.NewFlagSet("k3s "+name, pflag.ContinueOnError)
	set.SortFlags = false
	for _, f := range flags {
		if f.command&cmd == 0 {
			continue
		}
		switch f.kind {
		case text:
			set.StringP(f.name, f.short, f.value, "")
		case list:
			var value []string
			if f.value != "" {
				value = []string{f.value}
			}
			set.StringArrayP(f.name, f.short, value, "")
		case boolean:
			set.BoolP(f.name, f.short, f.value == "true", "")
		case number:
			n, _ := strconv.Atoi(f.value)
			set.IntP(f.name, f.short, n, "")
		}
	}
	return set
}

func build(cmd command, set *pflag.FlagSet) (*Config, error) {
	c := &Config{Server: cmd == server, Critical: map[string]string{}}
	for _, f := range flags {
		if f.command&cmd == 0 || !set.Changed(f.name) || (f.kind == boolean && set.Lookup(f.name).Value.String() == "false") {
			continue
		}
		switch f.effect {
		case refused:
			return nil, fmt.Errorf("%s: k3s has it, the stand-in for tests does not imitate it", f.name)
		case inert:
			c.Inert = append(c.Inert, f.name)
		}
	}
	str := func(n string) string { return set.Lookup(n).Value.String() }
	arr := func(n string) []string { v, _ := set.GetStringArray(n); return v }
	flagOn := func(n string) bool { v, _ := set.GetBool(n); return v }
	num := func(n string) int { v, _ := set.GetInt(n); return v }

	c.DataDir, c.BindAddress = filepath.Clean(str("data-dir")), str("bind-address")
	c.ServerURL, c.LBPort = strings.TrimSuffix(str("server"), "/"), num("lb-server-port")
	c.KubeletArgs, c.KubeProxyArgs = arr("kubelet-arg"), arr("kube-proxy-arg")
	c.NodeName, c.NodeIP = str("node-name"), split(arr("node-ip"))
	c.NodeLabels, c.NodeTaints = arr("node-label"), arr("node-taint")
	c.ResolvConf, c.PauseImage, c.Snapshotter = str("resolv-conf"), str("pause-image"), str("snapshotter")
	c.ProtectDefaults = flagOn("protect-kernel-defaults")
	var err error
	if c.Token, err = secret(str("token"), str("token-file"), "token-file"); err != nil {
		return nil, err
	}
	if cmd == server {
		c.HTTPSPort, c.AdvertiseAddress = num("https-listen-port"), str("advertise-address")
		c.TLSSANs = split(arr("tls-san"))
		c.ClusterCIDR, c.ServiceCIDR = split(arr("cluster-cidr")), split(arr("service-cidr"))
		c.ClusterDNS, c.ClusterDomain = split(arr("cluster-dns")), str("cluster-domain")
		c.NodePortRange, c.FlannelBackend = str("service-node-port-range"), str("flannel-backend")
		c.ClusterInit, c.Kubeconfig = flagOn("cluster-init"), str("write-kubeconfig")
		c.Disable, c.EtcdMetrics = split(arr("disable")), flagOn("etcd-expose-metrics")
		c.EncryptSecrets, c.DisableAgent = flagOn("secrets-encryption"), flagOn("disable-agent")
		c.DisableProxy, c.DisableSched = flagOn("disable-kube-proxy"), flagOn("disable-scheduler")
		c.EtcdArgs, c.APIServerArgs = arr("etcd-arg"), arr("kube-apiserver-arg")
		c.ControllerArgs, c.SchedulerArgs = arr("kube-controller-manager-arg"), arr("kube-scheduler-arg")
		if c.AgentToken, err = secret(str("agent-token"), str("agent-token-file"), "agent-token-file"); err != nil {
			return nil, err
		}
		mode, err := strconv.ParseUint(str("write-kubeconfig-mode"), 8, 12)
		if err != nil {
			return nil, fmt.Errorf("write-kubeconfig-mode: %q is not an octal file mode", str("write-kubeconfig-mode"))
		}
		c.KubeconfigMode = fs.FileMode(mode)
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if cmd == server {
		if len(c.ClusterDNS) == 0 {
			c.ClusterDNS = []string{tenthAddress(c.ServiceCIDR[0])}
		}
		for _, n := range criticalFlags {
			c.Critical[n] = str(n)
		}
		c.Critical["cluster-dns"] = strings.Join(c.ClusterDNS, ",")
		c.Critical["cluster-cidr"] = strings.Join(c.ClusterCIDR, ",")
		c.Critical["service-cidr"] = strings.Join(c.ServiceCIDR, ",")
		disabled := append([]string(nil), c.Disable...)
		sort.Strings(disabled)
		c.Critical["disable"] = strings.Join(disabled, ",")
		c.Critical["agent-token"] = strconv.FormatBool(c.AgentToken != "")
	}
	return c, nil
}

func (c *Config) validate() error {
	if !filepath.IsAbs(c.DataDir) {
		return fmt.Errorf("data-dir: %q is not an absolute path", c.DataDir)
	}
	for name, cidrs := range map[string][]string{"cluster-cidr": c.ClusterCIDR, "service-cidr": c.ServiceCIDR} {
		if c.Server && len(cidrs) == 0 {
			return fmt.Errorf("%s: must not be empty", name)
		}
		for _, s := range cidrs {
			if _, err := netip.ParsePrefix(s); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for name, addresses := range map[string][]string{"node-ip": c.NodeIP, "cluster-dns": c.ClusterDNS} {
		for _, s := range addresses {
			if _, err := netip.ParseAddr(s); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if c.ServerURL != "" && !strings.HasPrefix(c.ServerURL, "https://") {
		return fmt.Errorf("server: %q must start with https://", c.ServerURL)
	}
	if !c.Server {
		if c.ServerURL == "" {
			return errors.New("server: k3s agent needs the URL of a server")
		}
		if c.Token == "" {
			return errors.New("token: k3s agent needs a token")
		}
		return nil
	}
	if c.ServerURL != "" && c.Token == "" {
		return errors.New("token: needed to join the server that `server` names")
	}
	switch c.FlannelBackend {
	case "vxlan", "host-gw", "wireguard-native", "none":
	default:
		return fmt.Errorf("flannel-backend: %q is none of vxlan, host-gw, wireguard-native, none", c.FlannelBackend)
	}
	for _, d := range c.Disable {
		switch d {
		case "coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes", "ccm", "rolebindings", "":
		default:
			return fmt.Errorf("disable: k3s has no packaged component %q", d)
		}
	}
	return nil
}

// split separates values that k3s lets one write with commas.
func split(values []string) []string {
	var out []string
	for _, v := range values {
		for _, s := range strings.Split(v, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func secret(value, file, name string) (string, error) {
	if value != "" || file == "" {
		return value, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// tenthAddress is k3s' default for cluster-dns.
func tenthAddress(cidr string) string {
	a := netip.MustParsePrefix(cidr).Masked().Addr()
	for range 10 {
		a = a.Next()
	}
	return a.String()
}
