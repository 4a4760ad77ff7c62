package config

// command says which of k3s' two commands has a flag.
type command uint8

const (
	server command = 1 << iota
	agent
	both = server | agent
)

// effect says what the stand-in does with a flag that k3s documents.
type effect uint8

const (
	// honoured flags do here what they do in k3s.
	honoured effect = iota
	// inert flags are accepted and change nothing, because the stand-in has
	// no such part (no Traefik to disable, no S3 to write snapshots to).
	inert
	// refused flags would change what the machine is; pretending to honour
	// them would make a test pass that must not.
	refused
)

type kind uint8

const (
	text kind = iota
	list
	boolean
	number
)

type flag struct {
	name    string
	short   string
	kind    kind
	value   string // default, in the flag's own spelling
	env     string
	command command
	effect  effect
}

// flags is every flag that `k3s server` and `k3s agent` document for v1.33
// (https://docs.k3s.io/cli/server, https://docs.k3s.io/cli/agent).
var flags = []flag{
	{name: "config", short: "c", value: "/etc/rancher/k3s/config.yaml", env: "K3S_CONFIG_FILE", command: both},
	{name: "debug", kind: boolean, env: "K3S_DEBUG", command: both, effect: inert},
	{name: "v", short: "v", kind: number, value: "0", command: both, effect: inert},
	{name: "vmodule", command: both, effect: inert},
	{name: "log", short: "l", command: both, effect: inert},
	{name: "alsologtostderr", kind: boolean, command: both, effect: inert},

	{name: "bind-address", value: "0.0.0.0", command: both},
	{name: "https-listen-port", kind: number, value: "6443", command: server},
	{name: "supervisor-port", kind: number, value: "0", command: server, effect: refused},
	{name: "apiserver-port", kind: number, value: "0", command: server, effect: refused},
	{name: "apiserver-bind-address", command: server, effect: refused},
	{name: "advertise-address", command: server},
	{name: "advertise-port", kind: number, value: "0", command: server, effect: refused},
	{name: "tls-san", kind: list, command: server},
	{name: "tls-san-security", kind: boolean, value: "true", command: server, effect: inert},
	{name: "data-dir", short: "d", value: "/var/lib/rancher/k3s", env: "K3S_DATA_DIR", command: both},

	{name: "cluster-cidr", kind: list, value: "10.42.0.0/16", command: server},
	{name: "service-cidr", kind: list, value: "10.43.0.0/16", command: server},
	{name: "service-node-port-range", value: "30000-32767", command: server},
	{name: "cluster-dns", kind: list, command: server},
	{name: "cluster-domain", value: "cluster.local", command: server},
	{name: "flannel-backend", value: "vxlan", command: server},
	{name: "flannel-ipv6-masq", kind: boolean, command: server, effect: inert},
	{name: "flannel-external-ip", kind: boolean, command: server, effect: inert},
	{name: "flannel-iface", command: both, effect: inert},
	{name: "flannel-conf", command: both, effect: inert},
	{name: "flannel-cni-conf", command: both, effect: inert},
	{name: "egress-selector-mode", value: "agent", command: server, effect: inert},
	{name: "servicelb-namespace", value: "kube-system", command: server, effect: inert},
	{name: "vpn-auth", env: "K3S_VPN_AUTH", command: both, effect: refused},
	{name: "vpn-auth-file", env: "K3S_VPN_AUTH_FILE", command: both, effect: refused},

	{name: "token", short: "t", env: "K3S_TOKEN", command: both},
	{name: "token-file", env: "K3S_TOKEN_FILE", command: both},
	{name: "agent-token", env: "K3S_AGENT_TOKEN", command: server},
	{name: "agent-token-file", env: "K3S_AGENT_TOKEN_FILE", command: server},
	{name: "server", short: "s", env: "K3S_URL", command: both},
	{name: "cluster-init", kind: boolean, env: "K3S_CLUSTER_INIT", command: server},
	{name: "cluster-reset", kind: boolean, env: "K3S_CLUSTER_RESET", command: server, effect: refused},
	{name: "cluster-reset-restore-path", command: server, effect: refused},

	{name: "write-kubeconfig", short: "o", value: "/etc/rancher/k3s/k3s.yaml", env: "K3S_KUBECONFIG_OUTPUT", command: server},
	{name: "write-kubeconfig-mode", value: "0600", env: "K3S_KUBECONFIG_MODE", command: server},
	{name: "write-kubeconfig-group", env: "K3S_KUBECONFIG_GROUP", command: server, effect: inert},
	{name: "helm-job-image", command: server, effect: inert},

	{name: "kube-apiserver-arg", kind: list, command: server},
	{name: "etcd-arg", kind: list, command: server},
	{name: "kube-controller-manager-arg", kind: list, command: server},
	{name: "kube-scheduler-arg", kind: list, command: server},
	{name: "kube-cloud-controller-manager-arg", kind: list, command: server, effect: inert},
	{name: "kubelet-arg", kind: list, command: both},
	{name: "kube-proxy-arg", kind: list, command: both},

	{name: "datastore-endpoint", env: "K3S_DATASTORE_ENDPOINT", command: server, effect: refused},
	{name: "datastore-cafile", env: "K3S_DATASTORE_CAFILE", command: server, effect: refused},
	{name: "datastore-certfile", env: "K3S_DATASTORE_CERTFILE", command: server, effect: refused},
	{name: "datastore-keyfile", env: "K3S_DATASTORE_KEYFILE", command: server, effect: refused},
	{name: "kine-tls", kind: boolean, command: server, effect: refused},
	{name: "etcd-expose-metrics", kind: boolean, command: server},
	{name: "etcd-disable-snapshots", kind: boolean, command: server, effect: inert},
	{name: "etcd-snapshot-name", command: server, effect: inert},
	{name: "etcd-snapshot-schedule-cron", command: server, effect: inert},
	{name: "etcd-snapshot-reconcile-interval", command: server, effect: inert},
	{name: "etcd-snapshot-retention", kind: number, value: "5", command: server, effect: inert},
	{name: "etcd-snapshot-dir", command: server, effect: inert},
	{name: "etcd-snapshot-compress", kind: boolean, command: server, effect: inert},
	{name: "etcd-s3", kind: boolean, command: server, effect: inert},
	{name: "etcd-s3-endpoint", command: server, effect: inert},
	{name: "etcd-s3-endpoint-ca", command: server, effect: inert},
	{name: "etcd-s3-skip-ssl-verify", kind: boolean, command: server, effect: inert},
	{name: "etcd-s3-access-key", env: "AWS_ACCESS_KEY_ID", command: server, effect: inert},
	{name: "etcd-s3-secret-key", env: "AWS_SECRET_ACCESS_KEY", command: server, effect: inert},
	{name: "etcd-s3-session-token", env: "AWS_SESSION_TOKEN", command: server, effect: inert},
	{name: "etcd-s3-bucket", command: server, effect: inert},
	{name: "etcd-s3-bucket-lookup-type", command: server, effect: inert},
	{name: "etcd-s3-region", command: server, effect: inert},
	{name: "etcd-s3-folder", command: server, effect: inert},
	{name: "etcd-s3-proxy", command: server, effect: inert},
	{name: "etcd-s3-config-secret", command: server, effect: inert},
	{name: "etcd-s3-insecure", kind: boolean, command: server, effect: inert},
	{name: "etcd-s3-timeout", command: server, effect: inert},
	{name: "etcd-s3-retention", kind: number, value: "0", command: server, effect: inert},
	{name: "default-local-storage-path", command: server, effect: inert},

	{name: "disable", kind: list, command: server},
	{name: "disable-scheduler", kind: boolean, command: server},
	{name: "disable-cloud-controller", kind: boolean, command: server, effect: inert},
	{name: "disable-kube-proxy", kind: boolean, command: server},
	{name: "disable-network-policy", kind: boolean, command: server, effect: inert},
	{name: "disable-helm-controller", kind: boolean, command: server, effect: inert},
	{name: "disable-agent", kind: boolean, command: server},
	{name: "disable-apiserver", kind: boolean, command: server, effect: refused},
	{name: "disable-controller-manager", kind: boolean, command: server, effect: refused},
	{name: "disable-etcd", kind: boolean, command: server, effect: refused},
	{name: "disable-apiserver-lb", kind: boolean, command: agent, effect: refused},
	{name: "embedded-registry", kind: boolean, command: server, effect: inert},
	{name: "supervisor-metrics", kind: boolean, command: server, effect: inert},

	{name: "node-name", env: "K3S_NODE_NAME", command: both},
	{name: "with-node-id", kind: boolean, command: both, effect: refused},
	{name: "node-label", kind: list, command: both},
	{name: "node-taint", kind: list, command: both},
	{name: "node-ip", short: "i", kind: list, command: both},
	{name: "node-external-ip", kind: list, command: both, effect: inert},
	{name: "node-internal-dns", kind: list, command: both, effect: inert},
	{name: "node-external-dns", kind: list, command: both, effect: inert},
	{name: "resolv-conf", env: "K3S_RESOLV_CONF", command: both},
	{name: "image-credential-provider-bin-dir", command: both, effect: inert},
	{name: "image-credential-provider-config", command: both, effect: inert},
	{name: "selinux", kind: boolean, env: "K3S_SELINUX", command: both, effect: inert},
	{name: "lb-server-port", kind: number, value: "6444", env: "K3S_LB_SERVER_PORT", command: both},
	{name: "docker", kind: boolean, command: both, effect: refused},
	{name: "container-runtime-endpoint", command: both, effect: refused},
	{name: "image-service-endpoint", command: both, effect: refused},
	{name: "default-runtime", command: both, effect: inert},
	{name: "disable-default-registry-endpoint", kind: boolean, command: both, effect: inert},
	{name: "nonroot-devices", kind: boolean, command: both, effect: inert},
	{name: "pause-image", value: "rancher/mirrored-pause:3.6", command: both},
	{name: "snapshotter", value: "overlayfs", command: both},
	{name: "private-registry", command: both, effect: inert},
	{name: "system-default-registry", env: "K3S_SYSTEM_DEFAULT_REGISTRY", command: server, effect: inert},
	{name: "airgap-extra-registry", kind: list, command: both, effect: inert},
	{name: "enable-pprof", kind: boolean, command: both, effect: inert},
	{name: "rootless", kind: boolean, command: both, effect: refused},
	{name: "prefer-bundled-bin", kind: boolean, command: both, effect: inert},
	{name: "protect-kernel-defaults", kind: boolean, command: both},
	{name: "secrets-encryption", kind: boolean, command: server},
	{name: "secrets-encryption-provider", value: "aescbc", command: server},
}
