//go:build linux

package fleet

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// workers is how many a whole fleet has: RHIZOME_FLEET_WORKERS, else 20, or 5 in
// short tests.
func workers(t *testing.T) int {
	t.Helper()
	if given := os.Getenv("RHIZOME_FLEET_WORKERS"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 || n > 60 {
			t.Fatalf("RHIZOME_FLEET_WORKERS is %q: want a number from 1 to 60", given)
		}
		return n
	}
	if testing.Short() {
		return 5
	}
	return 20
}

// A seeded cluster becomes exactly what is declared, with no outside help: three
// servers that vote, and workers, each wiped once under a claim of its own.
func TestAClusterGrowsToExactlyTheDeclaredMembers(t *testing.T) {
	t.Parallel()
	n := workers(t)
	w := newWorld(t, options{servers: 2, workers: n})
	w.seed()
	w.declare(w.names("")[1:]...)
	w.awaitMembers(5*time.Minute+time.Duration(n)*30*time.Second, w.names("")...)
	w.usage()
	w.isTidy(3 * time.Minute)
	w.isOneCluster()
	for _, name := range w.names("") {
		if got := w.wipesOf(name); got != 1 {
			t.Errorf("%s was wiped %d times, want once", name, got)
		}
	}
	w.settle()
	if w.most[v1alpha1.Worker] < 2 && n > 5 {
		t.Error("workers were never installed side by side")
	}
}

// isTidy waits until nothing of the installations is left: no claim, no bootstrap
// token.
func (w *world) isTidy(patience time.Duration) {
	w.t.Helper()
	w.await("nothing left of the installations", patience, func(ctx context.Context) (lack []string) {
		claims, err := w.kube.CoreV1().Secrets(names.DefaultPXENamespace).List(ctx, metav1.ListOptions{FieldSelector: "type=" + string(names.ClaimType)})
		if err != nil {
			return []string{err.Error()}
		}
		tokens, err := w.kube.CoreV1().Secrets("kube-system").List(ctx, metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)})
		if err != nil {
			return []string{err.Error()}
		}
		for _, s := range append(claims.Items, tokens.Items...) {
			lack = append(lack, "the Secret "+s.Namespace+"/"+s.Name+" is left")
		}
		return lack
	})
}

// isOneCluster asks every server by itself which cluster it serves.
func (w *world) isOneCluster() {
	w.t.Helper()
	var uid string
	for _, name := range w.names(v1alpha1.ControlPlane) {
		config := rest.CopyConfig(w.rest)
		config.Host = fmt.Sprintf("https://%s:6443", w.machines[name].Address.Addr())
		config.Dial = w.lab.Network.DialContext
		kube, err := kubernetes.NewForConfig(config)
		if err != nil {
			w.t.Fatal(err)
		}
		w.insist("ask "+name+" which cluster it serves", func(ctx context.Context) error {
			system, err := kube.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if uid == "" {
				uid = string(system.UID)
			}
			if uid != string(system.UID) {
				w.t.Errorf("%s serves another cluster", name)
			}
			return nil
		})
		config2, err := os.ReadFile(w.machines[name].Root() + k3s.ConfigPath)
		if err != nil {
			w.t.Fatal(err)
		}
		if name != first && strings.Contains(string(config2), "cluster-init") {
			w.t.Errorf("the config of %s founds a cluster", name)
		}
	}
}

// usage logs what the members cost, for the record.
func (w *world) usage() {
	w.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Fatal(err)
	}
	sums, count := map[string]int{}, map[string]int{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		args, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || len(args) == 0 {
			continue
		}
		words := strings.Split(string(args), "\x00")
		what := words[0][strings.LastIndexByte(words[0], '/')+1:]
		if what == "rhizome" || what == "k3s" {
			what += " " + words[1]
		}
		switch what {
		case "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "k3s server", "rhizome operator", "rhizome pxe", "fleet.test":
		default:
			continue
		}
		if private, err := proportional(e.Name()); err == nil {
			sums[what] += private
			count[what]++
		}
	}
	for what, kib := range sums {
		w.t.Logf("memory: %d × %s: %d MiB in all", count[what], what, kib>>10)
	}
}

// proportional is a process's share of memory, in KiB.
func proportional(pid string) (int, error) {
	content, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(content), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			return strconv.Atoi(fields[1])
		}
	}
	return 0, fmt.Errorf("no Pss of process %s", pid)
}
