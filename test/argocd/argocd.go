//go:build linux

// Package argocd runs the real Argo CD for tests: its application controller,
// ApplicationSet controller and repo-server, with Redis, natively against the
// API server of the test.
//
// What is not here: pods (no workload becomes healthy: tests sync ConfigMaps and
// the like), the web server and its API, dex, notifications. The controllers have
// all rights in the cluster. All listen on loopback, but the application
// controller's metrics, whose address is not configurable.
package argocd

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/test/program"
)

// InCluster is the destination server of an Application that means the cluster
// that Argo CD itself is in.
const InCluster = "https://kubernetes.default.svc"

// Argo is an Argo CD that runs. One goroutine at a time uses it.
type Argo struct {
	// Namespace is where its Applications are.
	Namespace string
	// Client may do anything in the cluster. It knows no types of Argo CD.
	Client client.Client

	dir        string // of logs and of what the programs write
	programs   string // directory of the programs
	kubeconfig string
	env        []string
	redis      *redis
	parts      map[string]part // by the name of the program
	running    map[string]*program.Process
}

// part is one of the programs, and the address at which it says that it works.
type part struct {
	args   []string
	health string
}

const (
	repoServer               = "argocd-repo-server"
	applicationController    = "argocd-application-controller"
	applicationSetController = "argocd-applicationset-controller"
)

// Option is what differs from Argo CD as its manifests have it.
type Option func(*Argo)

// InNamespace has it use another namespace than argocd. Tests that share an API
// server and run side by side, or leave Applications behind, use one each.
func InNamespace(name string) Option { return func(a *Argo) { a.Namespace = name } }

// Environment sets variables of all three programs, as NAME=value: those in
// which Argo CD's manifests hand argocd-cmd-params-cm and argocd-cm over, such
// as ARGOCD_RECONCILIATION_TIMEOUT=10s.
func Environment(variables ...string) Option {
	return func(a *Argo) { a.env = append(a.env, variables...) }
}

// Start installs Argo CD into the cluster and runs it until the test ends.
func Start(t testing.TB, config *rest.Config, options ...Option) *Argo {
	t.Helper()
	a := prepare(t, config, options)
	if err := a.install(t.Context(), config); err != nil {
		t.Fatalf("cannot install Argo CD: %v", err)
	}
	a.run(t)
	return a
}

// Run runs Argo CD until the test ends, in a cluster where something else has
// installed it: its CRDs, its namespace, ConfigMaps, Secrets and projects, those
// of Argo CD's manifests core-install.yaml.
func Run(t testing.TB, config *rest.Config, options ...Option) *Argo {
	t.Helper()
	a := prepare(t, config, options)
	a.run(t)
	return a
}

// Manifests is the directory of Argo CD's manifests: crds/*.yaml,
// core-install.yaml and so on.
func Manifests(t testing.TB) string {
	t.Helper()
	return filepath.Join(filepath.Dir(build(t)), "manifests")
}

func build(t testing.TB) string {
	t.Helper()
	return program.Build(t, "test/argocd/program/build.sh")
}

func prepare(t testing.TB, config *rest.Config, options []Option) *Argo {
	t.Helper()
	a := &Argo{Namespace: "argocd", programs: filepath.Dir(build(t)), dir: program.Dir(t, "argocd"), running: map[string]*program.Process{}}
	for _, o := range options {
		o(a)
	}
	var err error
	if a.Client, err = client.New(config, client.Options{}); err != nil {
		t.Fatal(err)
	}
	a.kubeconfig = filepath.Join(a.dir, "kubeconfig")
	if err := writeKubeconfig(a.kubeconfig, config, a.Namespace); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tmp", "home", "tls", "ssh"} {
		if err := os.Mkdir(filepath.Join(a.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// writeKubeconfig writes a file with which a program has the rights of the
// configuration, and the namespace as its own.
func writeKubeconfig(path string, config *rest.Config, namespace string) error {
	c := clientcmdapi.NewConfig()
	c.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData, CertificateAuthority: config.CAFile}
	c.AuthInfos["test"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData,
		ClientCertificate: config.CertFile, ClientKey: config.KeyFile, Token: config.BearerToken}
	c.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test", Namespace: namespace}
	c.CurrentContext = "test"
	if !strings.Contains(config.Host, "://") {
		c.Clusters["test"].Server = "https://" + config.Host
	}
	return clientcmd.WriteToFile(*c, path) // readable by its owner only
}

// run starts the programs and waits until they work.
func (a *Argo) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a.redis = startRedis(ctx, t, a.dir)
	repo, metrics, repoMetrics := program.Port(t), program.Port(t), program.Port(t)
	sets, setProbes, hook := program.Port(t), program.Port(t), program.Port(t)
	address := fmt.Sprintf("127.0.0.1:%d", repo)
	a.parts = map[string]part{
		repoServer: {health: fmt.Sprintf("http://127.0.0.1:%d/healthz?full=true", repoMetrics), args: []string{
			"--address=127.0.0.1", fmt.Sprintf("--port=%d", repo), "--metrics-address=127.0.0.1", fmt.Sprintf("--metrics-port=%d", repoMetrics),
			"--disable-tls", "--redis=" + a.redis.address}},
		applicationController: {health: fmt.Sprintf("http://127.0.0.1:%d/healthz", metrics), args: []string{
			fmt.Sprintf("--metrics-port=%d", metrics), "--repo-server=" + address, "--repo-server-plaintext", "--redis=" + a.redis.address}},
		// Its probes check nothing; its metrics come with its controllers.
		applicationSetController: {health: fmt.Sprintf("http://127.0.0.1:%d/metrics", sets), args: []string{
			fmt.Sprintf("--metrics-addr=127.0.0.1:%d", sets), fmt.Sprintf("--probe-addr=127.0.0.1:%d", setProbes), fmt.Sprintf("--webhook-addr=127.0.0.1:%d", hook),
			"--argocd-repo-server=" + address, "--repo-server-plaintext"}},
	}
	// The controllers end when they do not find the repo-server.
	for _, name := range []string{repoServer, applicationController, applicationSetController} {
		a.start(ctx, t, name)
	}
}

func (a *Argo) start(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(a.programs, name), a.parts[name].args...)
	cmd.Dir = a.dir
	cmd.Env = append(a.environment(), a.env...)
	p := program.Start(t, name, filepath.Join(a.dir, name+".log"), cmd)
	if err := p.Wait(ctx, program.Answers(a.parts[name].health)); err != nil {
		t.Fatal(err)
	}
	a.running[name] = p
}

// Restart starts again those of the programs that have ended, and waits until
// they answer. An application controller that starts may see Applications before
// their project: they then say InvalidSpecError until they are refreshed or the
// next poll comes, minutes later. That is Argo CD's own behaviour.
func (a *Argo) Restart(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{repoServer, applicationController, applicationSetController} {
		if !a.running[name].Running() {
			a.start(ctx, t, name)
		}
	}
}

// environment is what the programs see of the test's own, and where they look
// for what is mounted into their pods.
func (a *Argo) environment() []string {
	return []string{
		"PATH=" + a.programs + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + filepath.Join(a.dir, "home"),
		"TMPDIR=" + filepath.Join(a.dir, "tmp"),
		"KUBECONFIG=" + a.kubeconfig,
		// Argo CD's own way to run outside of a pod: the destination InCluster is
		// the kubeconfig's cluster.
		"ARGOCD_FAKE_IN_CLUSTER=true",
		"ARGOCD_GPG_ENABLED=false",
		"ARGOCD_TLS_DATA_PATH=" + filepath.Join(a.dir, "tls"),
		"ARGOCD_SSH_DATA_PATH=" + filepath.Join(a.dir, "ssh"),
		"ARGOCD_ASK_PASS_SOCK=" + filepath.Join(a.dir, "ask-pass.sock"),
		"REDIS_PASSWORD=" + a.redis.password,
	}
}

// RepoServer is the process of the repo-server, to kill or to pause.
func (a *Argo) RepoServer() *program.Process { return a.running[repoServer] }

// ApplicationController is the process of the application controller.
func (a *Argo) ApplicationController() *program.Process {
	return a.running[applicationController]
}

// ApplicationSetController is the process of the ApplicationSet controller.
func (a *Argo) ApplicationSetController() *program.Process {
	return a.running[applicationSetController]
}

// Stop ends the programs before the test does. What is installed stays.
func (a *Argo) Stop() {
	for _, p := range a.running {
		p.Kill()
	}
	a.redis.process.Kill()
}

func secret() string { return rand.Text() }
