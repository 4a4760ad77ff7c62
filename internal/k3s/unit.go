package k3s

import "fmt"

// The names of k3s' units.
const (
	ServerUnitName = "k3s.service"
	AgentUnitName  = "k3s-agent.service"
)

// ServerUnit is k3s.service.
func ServerUnit() string { return unit("server", ServerUnitName) }

// AgentUnit is k3s-agent.service.
func AgentUnit() string { return unit("agent", AgentUnitName) }

// unit has the settings of the k3s project's own installation: notify, because
// k3s says when it is ready; KillMode=process and Delegate, because containers
// outlive a restart; no start time-out, because a join may take minutes.
// (https://docs.k3s.io/installation/configuration, install.sh)
func unit(command, name string) string {
	return fmt.Sprintf(`[Unit]
Description=Lightweight Kubernetes (k3s %[1]s)
Documentation=https://k3s.io
Wants=network-online.target
After=network-online.target
ConditionFileIsExecutable=%[2]s
ConditionPathExists=%[3]s

[Service]
Type=notify
EnvironmentFile=-/etc/default/%%N
EnvironmentFile=-/etc/sysconfig/%%N
EnvironmentFile=-/etc/systemd/system/%[4]s.env
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=%[2]s %[1]s
KillMode=process
Delegate=yes
User=root
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
`, command, BinaryPath, ConfigPath, name)
}
