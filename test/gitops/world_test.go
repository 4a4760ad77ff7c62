//go:build linux

package gitops

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/bootstrapper/install"
	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/operator"
	"github.com/rhizome-dev/rhizome/test/argocd"
	argochart "github.com/rhizome-dev/rhizome/test/argocd/chart"
	"github.com/rhizome-dev/rhizome/test/gitserver"
	"github.com/rhizome-dev/rhizome/test/kube"
	"github.com/rhizome-dev/rhizome/test/program"
)

func TestMain(m *testing.M) { kube.Main(m) }

// patience bounds waiting for what never comes. No test measures time with it.
const patience = 8 * time.Minute

const (
	account   = "rhizome-operator"
	installer = "rhizome-installer"
	argoSpace = "argocd"
)

// world is an API server with the operator's chart, on which the operator's command
// runs, and a git server with a first commit. One test binary has one.
type world struct {
	client.Client
	admin *rest.Config
	// itself is what the operator's account may do.
	itself *rest.Config
	hub    *gitserver.Server
	clone  *gitserver.Clone
	first  string // commit
	// push is where the operator hears of pushes, and stop ends it.
	push string
	stop func()
}

// start installs the operator and runs it.
func start(t testing.TB) *world {
	t.Helper()
	w := &world{admin: kube.Start(t)}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.Client, err = client.New(w.admin, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	_, content := kubeconfig(t, w.admin)
	seed, err := install.NewClient(content)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seed.Definitions(t.Context()); err != nil {
		t.Fatal(err)
	}
	own, err := chart.Load()
	if err != nil {
		t.Fatal(err)
	}
	if s, err := seed.Chart(t.Context(), own, nil, slog.New(slog.DiscardHandler)); err != nil || s.Outcome != install.Installed {
		t.Fatalf("the chart: %+v, %v", s, err)
	}
	token := &authenticationv1.TokenRequest{}
	if err := w.SubResource("token").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: account}}, token); err != nil {
		t.Fatal(err)
	}
	w.itself = rest.AnonymousClientConfig(w.admin)
	w.itself.BearerToken = token.Status.Token
	file, _ := kubeconfig(t, w.itself)
	args := w.arguments(t)
	// A pod finds both in a directory that the kubelet mounts.
	w.stop = operate(t, append(args, "--kubeconfig="+file, "--namespace="+install.Namespace))

	w.hub = gitserver.Start(t)
	w.hub.Repository(t, "lab")
	w.clone = w.hub.Clone(t, "lab")
	w.first = w.clone.Commit(t, "first", map[string]string{"bootstrap/one/config.yaml": configMap("one", "1"), "apps/two/config.yaml": configMap("two", "1")})
	return w
}

// follow has the cluster follow the git server, and Argo CD installed and run.
func (w *world) follow(t testing.TB, home *v1alpha1.HomeSource, environment ...string) *argocd.Argo {
	t.Helper()
	charts := t.TempDir()
	if err := argochart.Write(charts, argocd.Manifests(t), false); err != nil {
		t.Fatal(err)
	}
	repository := httptest.NewServer(http.FileServer(http.Dir(charts)))
	t.Cleanup(repository.Close)
	if err := w.Create(t.Context(), &v1alpha1.GitOps{
		ObjectMeta: metav1.ObjectMeta{Name: "homelab"},
		Spec: v1alpha1.GitOpsSpec{
			ArgoCD: v1alpha1.ArgoCDSpec{Repository: repository.URL}, Seed: v1alpha1.GitSource{URL: w.hub.URL("lab")}, Home: home,
		},
	}); err != nil {
		t.Fatal(err)
	}
	ready(t, w)
	return argocd.Run(t, w.admin, argocd.InNamespace(argoSpace), argocd.Environment(environment...))
}

// awaitReady waits until the GitOps is Ready, and follows a source.
func (w *world) awaitReady(t testing.TB, source v1alpha1.SourceName) {
	t.Helper()
	until(t, "GitOps is ready", func(ctx context.Context) string {
		var g v1alpha1.GitOps
		if err := w.Get(ctx, client.ObjectKey{Name: "homelab"}, &g); err != nil {
			return err.Error()
		}
		if r := meta.FindStatusCondition(g.Status.Conditions, "Ready"); r == nil || r.Status != metav1.ConditionTrue || g.Status.ActiveSource != source {
			return fmt.Sprintf("%s, %+v", g.Status.ActiveSource, g.Status.Conditions)
		}
		return ""
	})
}

// kubeconfig is a file, and its content, with which one has the rights of a
// configuration.
func kubeconfig(t testing.TB, c *rest.Config) (path string, content []byte) {
	t.Helper()
	k := clientcmdapi.NewConfig()
	k.Clusters["c"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData}
	if !strings.Contains(c.Host, "://") {
		k.Clusters["c"].Server = "https://" + c.Host
	}
	k.AuthInfos["c"] = &clientcmdapi.AuthInfo{ClientCertificateData: c.CertData, ClientKeyData: c.KeyData, Token: c.BearerToken}
	k.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	k.CurrentContext = "c"
	content, err := clientcmd.Write(*k)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*k, path); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func until(t testing.TB, what string, lacks func(context.Context) string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		last := lacks(ctx)
		if last == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: still %s", what, last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// everyAddress is an argument by which a program listens on all addresses of its pod.
var everyAddress = regexp.MustCompile(`^(--[a-z]+-address=):[0-9]+$`)

// arguments are those of the operator's container, with addresses of this machine
// that nothing else has instead of those of a pod of its own.
func (w *world) arguments(t testing.TB) (args []string) {
	t.Helper()
	var d appsv1.Deployment
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: install.Namespace, Name: account}, &d); err != nil {
		t.Fatal(err)
	}
	if got := d.Spec.Template.Spec.ServiceAccountName; got != account {
		t.Fatalf("the operator's pod runs as %s", got)
	}
	for _, a := range d.Spec.Template.Spec.Containers[0].Args {
		if m := everyAddress.FindStringSubmatch(a); m != nil {
			address := fmt.Sprintf("127.0.0.1:%d", program.Port(t))
			if m[1] == "--push-address=" {
				w.push = address
			}
			a = m[1] + address
		}
		if at, is := strings.CutPrefix(a, "--push-url=http://"); is {
			// There is no DNS of a cluster here.
			_, path, _ := strings.Cut(at, "/")
			a = "--push-url=http://" + w.push + "/" + path
		}
		args = append(args, a)
	}
	if w.push == "" {
		t.Fatalf("the operator is not told where to hear of pushes: %v", args)
	}
	return args
}

// operate runs the operator's command until stop, or the test's end.
func operate(t testing.TB, args []string) (stop func()) {
	t.Helper()
	cmd := operator.Command()
	// In a pod the whole command line is the program's.
	if args[0] != cmd.Name() {
		t.Fatalf("the container's first argument is %q", args[0])
	}
	cmd.SetArgs(args[1:])
	cmd.SetErr(t.Output())
	cmd.SetOut(t.Output())
	cmd.SilenceUsage = true
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the operator ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  value: %q\n", name, value)
}

// ready waits until Argo CD is installed, and says of its pods that they are ready, as
// kubelet and controllers would.
func ready(t testing.TB, c client.Client) {
	t.Helper()
	until(t, "Argo CD is installed", func(ctx context.Context) string {
		for name, o := range map[string]client.Object{
			"argocd-repo-server": &appsv1.Deployment{}, "argocd-applicationset-controller": &appsv1.Deployment{}, "argocd-application-controller": &appsv1.StatefulSet{},
		} {
			if err := c.Get(ctx, client.ObjectKey{Namespace: argoSpace, Name: name}, o); err != nil {
				var g v1alpha1.GitOps
				_ = c.Get(ctx, client.ObjectKey{Name: "homelab"}, &g) // only for what is said
				return fmt.Sprintf("%v; %+v", err, meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionArgoCDReady))
			}
			switch o := o.(type) {
			case *appsv1.Deployment:
				o.Status = appsv1.DeploymentStatus{ObservedGeneration: o.Generation, Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
			case *appsv1.StatefulSet:
				o.Status = appsv1.StatefulSetStatus{ObservedGeneration: o.Generation, Replicas: 1, ReadyReplicas: 1}
			}
			if err := c.Status().Update(ctx, o); err != nil {
				return err.Error()
			}
		}
		return ""
	})
}
