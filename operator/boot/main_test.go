package boot

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"k8s.io/client-go/rest"

	"github.com/rhizome-dev/rhizome/test/kube"
)

// ownNetwork tells the test program that it is in a network namespace of its own.
const ownNetwork = "BOOT_TEST_OWN_NETWORK"

// The addresses of the hosts and machines of these tests, all on loopback of the
// test's own network namespace.
const (
	podAddress      = "192.168.1.2"
	replicaAddress  = "192.168.1.3"
	betaAddress     = "192.168.1.11"
	strangerAddress = "192.168.1.66"
)

// TestMain runs the tests again in a network namespace of their own, API server
// included: so that they have the ports of DHCP and TFTP for themselves.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(ownNetwork) != "":
		if err := setUpNetwork(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot set up the test's network:", err)
			os.Exit(1)
		}
		kube.Main(m)
	case os.Geteuid() == 0:
		os.Exit(again())
	}
	kube.Main(m) // what needs the network of its own says that it was skipped
}

func again() int {
	if os.Getenv(kube.StandinVariable) == "" {
		// It may have to be built, and that may take the internet.
		out, err := exec.Command("../../test/k3s/build.sh").Output()
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot build the stand-in for k3s (test/k3s/build.sh):", err)
			return 1
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err := os.Setenv(kube.StandinVariable, lines[len(lines)-1]); err != nil {
			return 1
		}
	}
	// Pdeathsig is the thread's that started the process.
	runtime.LockOSThread()
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), ownNetwork+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot run the tests in a network of their own:", err)
		return 1
	}
	return 0
}

func setUpNetwork() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, a := range []string{podAddress, replicaAddress, betaAddress, strangerAddress} {
		address, err := netlink.ParseAddr(a + "/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, address); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	// The API server wants a host with a default route.
	card := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan0"}, PeerName: "wan1"}
	if err := netlink.LinkAdd(card); err != nil {
		return err
	}
	address, err := netlink.ParseAddr("10.9.0.1/24")
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(card, address), netlink.LinkSetUp(card)); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: card.Attrs().Index, Gw: net.IPv4(10, 9, 0, 2)})
}

func kubeConfig(t *testing.T) *rest.Config {
	t.Helper()
	return kube.Start(t)
}
