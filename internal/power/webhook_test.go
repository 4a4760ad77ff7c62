package power

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// plug is a service that does what docs/reference/power.md says, to a toy.
type plug struct {
	machine *toy
	blind   bool // it does not know the state
	deaf    bool

	mu        sync.Mutex
	asked     []string // what changes something
	interrupt func(w http.ResponseWriter) bool
}

func (p *plug) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.interrupt != nil && p.interrupt(w) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+password {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"message":"no such token: %s"}`, r.Header.Get("Authorization"))
		return
	}
	var asked map[string]any
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	force, _ := asked["force"].(bool)
	want := map[string]any{"version": 1.0, "action": asked["action"], "node": "alpha", "mac": "52:54:00:00:00:01"}
	if force {
		want["force"] = true
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprintf(w, `{"message":%q}`, diff)
		return
	}
	action := fmt.Sprint(asked["action"])
	if action != "state" {
		if force {
			action += " by force"
		}
		p.asked = append(p.asked, action)
	}
	if !p.deaf {
		switch action {
		case "on", "cycle by force", "cycle":
			_ = p.machine.PowerOn(r.Context())
		case "off":
			_ = p.machine.Shutdown(r.Context())
		case "off by force":
			p.machine.PowerOff()
		}
	}
	state := "unknown"
	switch {
	case p.blind:
	case p.machine.Running():
		state = "on"
	default:
		state = "off"
	}
	fmt.Fprintf(w, `{"state":%q,"more":"is ignored"}`, state)
}

func plugIn(t *testing.T, p *plug) (*webhook, map[string][]byte) {
	t.Helper()
	p.machine = &toy{}
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	sum := sha256.Sum256(server.Certificate().Raw)
	pin := v1alpha1.SHA256(hex.EncodeToString(sum[:]))
	node := &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{
		MAC:   "52:54:00:00:00:01",
		Power: &v1alpha1.PowerSpec{Webhook: &v1alpha1.WebhookSpec{URL: server.URL + "/power", Credentials: v1alpha1.SecretReference{Name: "plugs"}, Fingerprint: &pin}},
	}}
	secret := map[string][]byte{KeyToken: []byte(password)}
	passing := &virtualTime{now: time.Unix(1e9, 0)}
	d, err := For(node, Options{Timing: passing.timing(), Secrets: func(context.Context, string) (map[string][]byte, error) { return secret, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*webhook), secret
}

func TestAWebhookThatKnowsTheStateIsProven(t *testing.T) {
	p := &plug{}
	d, _ := plugIn(t, p)
	ctx := t.Context()
	p.machine.stubborn = true
	for _, do := range []func() error{
		func() error { return d.TurnOn(ctx) },
		func() error { return d.TurnOn(ctx) },
		func() error { return d.Cycle(ctx, 0) },
		func() error { return d.TurnOff(ctx, time.Minute) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	if state, err := d.State(ctx); err != nil || state != Off || p.machine.Running() {
		t.Errorf("%s, %v", state, err)
	}
	if diff := cmp.Diff([]string{"on", "off by force", "on", "off", "off by force"}, p.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestAWebhookThatDoesNotKnowTheStateProvesNothing(t *testing.T) {
	p := &plug{blind: true}
	d, _ := plugIn(t, p)
	ctx := t.Context()
	for _, err := range []error{d.TurnOn(ctx), d.Cycle(ctx, 0), d.TurnOff(ctx, 0)} {
		mustBe(t, err, v1alpha1.ReasonPowerUnproven)
		if !errors.Is(err, ErrUnproven) {
			t.Errorf("%v is not ErrUnproven", err)
		}
	}
	if state, err := d.State(ctx); err != nil || state != Unknown {
		t.Errorf("%s, %v", state, err)
	}
	if diff := cmp.Diff([]string{"on", "cycle by force", "off by force"}, p.asked); diff != "" {
		t.Errorf("each is to be asked once (-want +got):\n%s", diff)
	}
}

func TestWhatAWebhookAnswersIsSaid(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		status       int
		body         string
		parts        []string
	}{
		{"not built", v1alpha1.ReasonPowerUnsupported, 501, `{"message":"no relay here"}`, []string{"no relay here", "power.md"}},
		{"unknown", v1alpha1.ReasonPowerUnsupported, 404, `not found`, []string{"not found"}},
		{"refused", v1alpha1.ReasonPowerRefused, 422, `{"message":"no such node"}`, []string{"no such node"}},
		{"broken", v1alpha1.ReasonPowerUnreachable, 500, `{"message":"` + password + `"}`, []string{"(secret)"}},
		{"redirected", v1alpha1.ReasonPowerUnreachable, 307, "", []string{"307"}},
		{"no JSON", v1alpha1.ReasonPowerUnreachable, 200, `on`, []string{"no JSON object"}},
		{"no state", v1alpha1.ReasonPowerUnreachable, 200, `{}`, []string{`""`, "on, off or unknown"}},
		{"another state", v1alpha1.ReasonPowerUnreachable, 200, `{"state":"On"}`, []string{`"On"`}},
		{"too long", v1alpha1.ReasonPowerUnreachable, 200, `{"state":"on"` + strings.Repeat(" ", maxAnswer) + `}`, []string{"longer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &plug{}
			d, _ := plugIn(t, p)
			p.interrupt = func(w http.ResponseWriter) bool {
				w.Header().Set("Location", "https://192.0.2.1/")
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
				return true
			}
			mustBe(t, d.TurnOn(t.Context()), c.reason, c.parts...)
			_, err := d.State(t.Context())
			mustBe(t, err, c.reason, c.parts...)
		})
	}
}

func TestAWebhookWithAWrongTokenOrCertificateIsNotAskedAgain(t *testing.T) {
	p := &plug{}
	d, secret := plugIn(t, p)
	tries := 0
	p.interrupt = func(http.ResponseWriter) bool { tries++; return false }
	secret[KeyToken] = []byte("wrong")
	err := d.TurnOn(t.Context())
	mustBe(t, err, v1alpha1.ReasonPowerCredentials, "plugs", "(secret)")
	if tries != 1 || strings.Contains(err.Error(), "wrong\"") {
		t.Errorf("%d tries; %v", tries, err)
	}
	pin := v1alpha1.SHA256(strings.Repeat("0", 64))
	d.spec.Fingerprint = &pin
	mustBe(t, d.TurnOn(t.Context()), v1alpha1.ReasonPowerCertificate, string(pin))
	delete(secret, KeyToken)
	mustBe(t, d.TurnOn(t.Context()), v1alpha1.ReasonPowerCredentials, KeyToken)
	if tries != 1 {
		t.Error("the token went to somebody who is not trusted")
	}
}

func TestAWebhookThatFailsForAWhileIsAskedAgain(t *testing.T) {
	p := &plug{}
	d, _ := plugIn(t, p)
	n := 0
	p.interrupt = func(w http.ResponseWriter) bool {
		if n++; n%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n%3 == 0
	}
	if err := d.TurnOn(t.Context()); err != nil || !p.machine.Running() {
		t.Error(err)
	}
	p.deaf = true
	mustBe(t, d.TurnOff(t.Context(), 0), v1alpha1.ReasonPowerUnproven, "not Off after 2m")
}
