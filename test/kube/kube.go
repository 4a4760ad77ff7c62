// Package kube gives tests a real API server: etcd and kube-apiserver on
// loopback, with Rhizome's CRDs, shared by the tests of a package.
//
// A package that uses it hands its TestMain over:
//
//	func TestMain(m *testing.M) { kube.Main(m) }
//
// No controller manager and no node run here: nothing deletes what is owned,
// no Pod ever starts.
package kube

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rhizome-dev/rhizome/test/program"
)

// StandinVariable names the environment variable with the path of the stand-in
// for the k3s binary. Without it, test/k3s/build.sh builds or finds it.
const StandinVariable = "RHIZOME_K3S_STANDIN"

// endWithParent makes the stand-in's programs end when the test binary does,
// however that ends. It is the stand-in's own variable.
const endWithParent = "K3S_STANDIN_END_WITH_PARENT"

var (
	mu      sync.Mutex
	inMain  bool
	running *environment
	failed  error
)

type environment struct {
	env    envtest.Environment
	config *rest.Config
	dir    string
}

// Main runs a package's tests, stops the API server if one of them started
// it, and exits.
func Main(m *testing.M) {
	mu.Lock()
	inMain = true
	mu.Unlock()
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot stop the API server:", err)
		code = 1
	}
	os.Exit(code)
}

// Start returns a configuration with which the test is cluster administrator.
// The first call in a package starts the API server; all share it, so tests
// use names or namespaces of their own. It may be called from parallel tests.
func Start(t testing.TB) *rest.Config {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if !inMain {
		t.Fatal("the package's TestMain must call kube.Main, which stops the API server")
	}
	if running == nil && failed == nil {
		running, failed = start()
	}
	if failed != nil {
		t.Fatalf("no API server for this test: %v", failed)
	}
	return rest.CopyConfig(running.config)
}

// Open is Start for a program that is no test, from within the repository: an API
// server of its own, until the returned function ends it.
func Open() (*rest.Config, func() error, error) {
	e, err := start()
	if err != nil {
		return nil, nil, err
	}
	return e.config, e.close, nil
}

// Standin returns the path of the stand-in for the k3s binary, building it if
// need be. The airgap archive and links for each program lie beside it.
func Standin(t testing.TB) string {
	t.Helper()
	path, err := standin()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func start() (*environment, error) {
	root, err := program.Module()
	if err != nil {
		return nil, err
	}
	binary, err := standin()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kube-")
	if err != nil {
		return nil, err
	}
	e := &environment{dir: dir}
	e.env = envtest.Environment{
		CRDDirectoryPaths:        []string{filepath.Join(root, "crds")},
		ErrorIfCRDPathMissing:    true,
		BinaryAssetsDirectory:    dir,
		ControlPlaneStartTimeout: 3 * time.Minute,
		ControlPlaneStopTimeout:  time.Minute,
	}
	// The stand-in looks at the name by which it was called.
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := os.Symlink(binary, filepath.Join(dir, name)); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	if err := os.Setenv(endWithParent, "1"); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if e.config, err = e.env.Start(); err != nil {
		return nil, errors.Join(err, e.env.Stop(), os.RemoveAll(dir))
	}
	e.config.QPS, e.config.Burst = 200, 400
	return e, nil
}

func stop() error {
	mu.Lock()
	defer mu.Unlock()
	if running == nil {
		return nil
	}
	e := running
	running = nil
	return e.close()
}

func (e *environment) close() error { return errors.Join(e.env.Stop(), os.RemoveAll(e.dir)) }

func standin() (string, error) {
	if path := os.Getenv(StandinVariable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w; run test/k3s/build.sh, which prints the path", StandinVariable, err)
		}
		return filepath.Abs(path)
	}
	return program.Script("test/k3s/build.sh")
}
