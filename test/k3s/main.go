// Command k3s is the stand-in for the k3s binary that Rhizome's tests run: the
// documented outside of k3s over the unmodified parts of Kubernetes and etcd.
// It is a test tool and no part of the product; see README.md.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
	_ "time/tzdata" // the controller manager's CronJobs

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/component-base/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	hollow "k8s.io/kubernetes/cmd/kubemark/app"
)

const usage = `k3s (stand-in): a test tool of Rhizome that behaves like the k3s binary as far as
k3s documents it. It is not k3s. Do not use it for anything but tests.

  k3s server [flags]     a control plane, and a node unless --disable-agent
  k3s agent [flags]      a node
  k3s --version

Flags are those of k3s v1.33, also as keys of /etc/rancher/k3s/config.yaml.
The parts run under their own names as well, given as the program's name or as
its first argument: etcd, kube-apiserver, kube-controller-manager,
kube-scheduler, kubelet, kube-proxy, hollow-node.
`

func main() {
	name := filepath.Base(os.Args[0])
	args := os.Args
	if !isPart(name) && len(args) > 1 && isPart(args[1]) {
		name, args = args[1], args[1:]
	}
	if isPart(name) {
		os.Args = args
		if os.Getenv(endWithParent) != "" {
			go endWith(os.Getppid())
		}
		os.Exit(runPart(name))
	}
	if len(args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	switch args[1] {
	case "server", "agent":
		if err := runNode(args[1] == "server", args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "k3s (stand-in): %v\n", err)
			os.Exit(1)
		}
	case "--version", "-v", "version":
		fmt.Printf("k3s version %s+standin (a stand-in for tests; not k3s)\n", version.Get().GitVersion)
	case "--help", "-h", "help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "k3s (stand-in): %q is not a command that the stand-in has\n\n%s", args[1], usage)
		os.Exit(2)
	}
}

// endWithParent is the environment variable by which a test asks a part to end
// when the test's process is gone, however that ended.
const endWithParent = "K3S_STANDIN_END_WITH_PARENT"

func endWith(parent int) {
	for os.Getppid() == parent {
		time.Sleep(time.Second)
	}
	os.Exit(1)
}

func isPart(name string) bool {
	switch name {
	case "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "hollow-node":
		return true
	}
	return false
}

// runPart becomes one of the programs inside. It does not return for etcd.
func runPart(name string) int {
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		return 0
	case "kube-apiserver":
		return cli.Run(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		return cli.Run(controllers.NewControllerManagerCommand())
	case "kube-scheduler":
		return cli.Run(scheduler.NewSchedulerCommand())
	case "kubelet":
		return cli.Run(kubelet.NewKubeletCommand())
	case "kube-proxy":
		return cli.Run(proxy.NewProxyCommand())
	default:
		return cli.Run(hollow.NewHollowNodeCommand())
	}
}
