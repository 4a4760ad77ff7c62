package power

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// webhook asks a service over HTTPS. docs/reference/power.md is its contract.
type webhook struct {
	target
	spec    v1alpha1.WebhookSpec
	mac     string
	secrets Secrets
	timing  Timing
}

func newWebhook(node *v1alpha1.Node, o Options) *webhook {
	spec := *node.Spec.Power.Webhook
	return &webhook{
		target: target{node: node.Name, field: "spec.power.webhook", url: spec.URL},
		spec:   spec, mac: string(node.Spec.MAC), secrets: o.Secrets, timing: o.Timing.orDefaults(),
	}
}

// action is what a service is asked to do.
type action string

const (
	actionOn    action = "on"
	actionOff   action = "off"
	actionCycle action = "cycle"
	actionState action = "state"
)

// request is what is posted.
type request struct {
	Version int    `json:"version"` // 1
	Action  action `json:"action"`
	Node    string `json:"node"`
	MAC     string `json:"mac"`
	// Force: power is cut at once. Of off and cycle only.
	Force bool `json:"force,omitempty"`
}

// answer is what a service says.
type answer struct {
	State   string `json:"state"`
	Message string `json:"message"`
}

func (a answer) state() (State, error) {
	switch a.State {
	case "on":
		return On, nil
	case "off":
		return Off, nil
	case "unknown":
		return Unknown, nil
	}
	return Unknown, fmt.Errorf("its answer has the state %q, want on, off or unknown", a.State)
}

// statusError is an answer that is no success.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("it answers %d: %s", e.status, e.message) }

// Means implements Driver.
func (w *webhook) Means() Means { return MeansWebhook }

// State implements Prover.
func (w *webhook) State(ctx context.Context) (State, error) {
	const doing = "cannot read the machine's power state"
	c, err := w.call(ctx, doing)
	if err != nil {
		return Unknown, err
	}
	defer c.close()
	state, err := c.state(ctx)
	return state, c.explain(doing, err)
}

// TurnOn implements TurnerOn.
func (w *webhook) TurnOn(ctx context.Context) error {
	const doing = "cannot turn the machine on"
	c, err := w.call(ctx, doing)
	if err != nil {
		return err
	}
	defer c.close()
	return c.explain(doing, c.turnOn(ctx))
}

// TurnOff implements TurnerOff.
func (w *webhook) TurnOff(ctx context.Context, grace time.Duration) error {
	const doing = "cannot turn the machine off"
	c, err := w.call(ctx, doing)
	if err != nil {
		return err
	}
	defer c.close()
	return c.explain(doing, c.turnOff(ctx, grace))
}

// Cycle implements Cycler. A service that knows the state is asked for off and on,
// and each is proven; of another, cycle is asked once, and the error is ErrUnproven.
func (w *webhook) Cycle(ctx context.Context, grace time.Duration) error {
	const doing = "cannot turn the machine off and on"
	c, err := w.call(ctx, doing)
	if err != nil {
		return err
	}
	defer c.close()
	state, err := c.state(ctx)
	switch {
	case err != nil:
	case state == Unknown:
		if _, err = c.post(ctx, request{Action: actionCycle, Force: grace <= 0}); err == nil {
			err = ErrUnproven
		}
	default:
		if err = c.turnOff(ctx, grace); err == nil {
			err = c.turnOn(ctx)
		}
	}
	return c.explain(doing, err)
}

// call is a talk with a service.
type call struct {
	*webhook
	carrier *guarded
	token   []byte
}

func (w *webhook) call(ctx context.Context, doing string) (*call, error) {
	secret, err := w.readSecret(ctx, w.secrets, w.spec.Credentials.Name, KeyToken)
	if err != nil {
		return nil, err
	}
	config, err := trust(w.spec.Fingerprint, secret[KeyAuthority])
	if err != nil {
		return nil, w.fault(v1alpha1.ReasonPowerCredentials, doing, "put the authority's certificate there as it begins with -----BEGIN CERTIFICATE-----", err)
	}
	carrier, err := guard(w.spec.URL, config, w.timing.Request)
	if err != nil {
		return nil, w.fault(v1alpha1.ReasonPowerUnsupported, doing, "write it as https://plugs.example.org/power", err)
	}
	carrier.use(ctx)
	return &call{webhook: w, carrier: carrier, token: secret[KeyToken]}, nil
}

func (c *call) close() { c.carrier.close() }

func (c *call) state(ctx context.Context) (State, error) {
	return c.post(ctx, request{Action: actionState})
}

func (c *call) turnOn(ctx context.Context) error {
	return c.timing.reach(ctx, journey{to: On, within: c.timing.Within, look: c.state, blind: true, tell: func(ctx context.Context) error {
		_, err := c.post(ctx, request{Action: actionOn})
		return err
	}})
}

func (c *call) turnOff(ctx context.Context, grace time.Duration) error {
	if grace > 0 {
		err := c.timing.reach(ctx, journey{to: Off, within: grace, look: c.state, once: true, blind: true, tell: func(ctx context.Context) error {
			_, err := c.post(ctx, request{Action: actionOff})
			return err
		}})
		if err == nil || final(err) || ctx.Err() != nil {
			return err
		}
	}
	return c.timing.reach(ctx, journey{to: Off, within: c.timing.Within, look: c.state, blind: true, tell: func(ctx context.Context) error {
		_, err := c.post(ctx, request{Action: actionOff, Force: true})
		return err
	}})
}

// post asks once.
func (c *call) post(ctx context.Context, r request) (State, error) {
	r.Version, r.Node, r.MAC = 1, c.node, c.mac
	body, err := json.Marshal(r)
	if err != nil {
		return Unknown, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.spec.URL, bytes.NewReader(body))
	if err != nil {
		return Unknown, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(c.token)))
	resp, err := c.carrier.client().Do(req)
	if err != nil {
		return Unknown, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return Unknown, err
	}
	return c.read(resp.StatusCode, data)
}

// read understands an answer.
func (c *call) read(status int, body []byte) (State, error) {
	var a answer
	decoded := json.Unmarshal(body, &a)
	if status == http.StatusOK {
		if decoded != nil {
			return Unknown, fmt.Errorf("cannot read its answer: %w", decoded)
		}
		return a.state()
	}
	e := &statusError{status: status, message: a.Message}
	if decoded != nil || a.Message == "" {
		e.message = string(body)
	}
	bare := plain(e, 600, c.token)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return Unknown, c.fault(v1alpha1.ReasonPowerCredentials, "it refuses the token",
			fmt.Sprintf("correct %s in the Secret %s", KeyToken, c.spec.Credentials.Name), bare)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return Unknown, c.fault(v1alpha1.ReasonPowerUnsupported, "it cannot do that", "see docs/reference/power.md for what a service has to answer", bare)
	}
	return Unknown, e
}

// explain makes a Fault of an error; nil stays nil.
func (c *call) explain(doing string, err error) error {
	var f *Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	bare := plain(err, 600, c.token)
	var s *statusError
	switch {
	case untrusted(err):
		return c.fault(v1alpha1.ReasonPowerCertificate, doing, trustFix, bare)
	case errors.Is(err, ErrUnproven):
		return c.fault(v1alpha1.ReasonPowerUnproven, doing, "look at the machine", unproven(bare))
	case errors.As(err, &s) && s.status >= 400 && s.status < 500:
		return c.fault(v1alpha1.ReasonPowerRefused, doing, "see the service's own log", bare)
	}
	return c.fault(v1alpha1.ReasonPowerUnreachable, doing, "see that the service runs and can be reached from the cluster", bare)
}
