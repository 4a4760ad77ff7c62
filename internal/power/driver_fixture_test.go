package power

import (
	"context"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/bmc"
)

const (
	username = "admin"
	password = "correct horse battery staple"
)

// toy is a machine that is on or off and nothing else.
type toy struct {
	mu       sync.Mutex
	on       bool
	stubborn bool // its operating system does not shut down
	network  int  // how often it was told to boot from the network
	starts   int
}

func (m *toy) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

func (m *toy) PowerOn(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on, m.starts = true, m.starts+1
	return nil
}

func (m *toy) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = false
}

func (m *toy) Reset(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts++
	return nil
}

func (m *toy) Shutdown(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = m.on && m.stubborn
	return nil
}

func (m *toy) BootFromNetworkOnce() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.network++
}

// virtualTime passes when somebody sleeps, and only then.
type virtualTime struct {
	mu  sync.Mutex
	now time.Time
}

func (v *virtualTime) timing() Timing {
	return Timing{
		Now: func() time.Time { v.mu.Lock(); defer v.mu.Unlock(); return v.now },
		Sleep: func(ctx context.Context, d time.Duration) error {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.now = v.now.Add(d)
			return ctx.Err()
		},
	}
}

// stand is a controller with one machine, and the driver of a Node that is it.
type stand struct {
	*bmc.Controller
	machine *toy
	node    *v1alpha1.Node
	secret  map[string][]byte
	time    *virtualTime
	timing  Timing
}

func setUp(t *testing.T, habits bmc.Habits) *stand {
	t.Helper()
	s := &stand{Controller: bmc.New(username, password), machine: &toy{}, time: &virtualTime{now: time.Unix(1e9, 0)}}
	s.Controller.Habits = habits
	s.Add("1", s.machine)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	print, err := s.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	pin := v1alpha1.SHA256(print)
	s.node = &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{
		MAC: "52:54:00:00:00:01",
		Power: &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{
			Endpoint: "https://" + listener.Addr().String(), Credentials: v1alpha1.SecretReference{Name: "alpha-bmc"}, Fingerprint: &pin,
		}},
	}}
	s.secret = map[string][]byte{KeyUsername: []byte(username), KeyPassword: []byte(password)}
	s.timing = s.time.timing()
	return s
}

// trustAuthority verifies the controller by its certificate's authority, itself.
func (s *stand) trustAuthority(t *testing.T) {
	t.Helper()
	der, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	s.secret[KeyAuthority] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.node.Spec.Power.Redfish.Fingerprint = nil
}

func (s *stand) driver(t *testing.T) *board {
	t.Helper()
	d, err := For(s.node, Options{Timing: s.timing, Secrets: func(_ context.Context, name string) (map[string][]byte, error) {
		if name != "alpha-bmc" {
			return nil, errors.New("there is no such Secret")
		}
		return s.secret, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*board)
}

// left checks that no session is left open on the controller.
func (s *stand) left(t *testing.T) {
	t.Helper()
	if open, ever := s.Sessions(); open != 0 {
		t.Errorf("%d of %d sessions were left open", open, ever)
	}
}

// mustBe checks that an error is a Fault of a reason, names the Node, the field and
// the controller, says what to do, and tells no secret.
func mustBe(t *testing.T, err error, reason string, parts ...string) {
	t.Helper()
	var f *Fault
	if !errors.As(err, &f) {
		t.Fatalf("%v: want a Fault with the reason %s", err, reason)
	}
	text := err.Error()
	if f.Reason != reason {
		t.Errorf("the reason is %s, want %s: %s", f.Reason, reason, text)
	}
	for _, part := range append(parts, "Node/alpha: spec.power.", "https://127.0.0.1:", "; ") {
		if !strings.Contains(text, part) {
			t.Errorf("the error lacks %q: %s", part, text)
		}
	}
	if strings.Contains(text, password) || strings.ContainsAny(text, "\n\x1b") {
		t.Errorf("the error tells a secret, or is not one line: %q", text)
	}
}
