package power

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// answering answers every request with the same bytes.
type answering struct {
	body   []byte
	header http.Header
}

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) {
	status := http.StatusOK
	if req.Method == http.MethodPost {
		status = http.StatusCreated
	}
	return &http.Response{StatusCode: status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), Request: req}, nil
}

// Whatever a controller answers, no visit panics, hangs or goes elsewhere.
func FuzzControllerAnswers(f *testing.F) {
	f.Add([]byte(`{"@odata.id":"/redfish/v1/Systems/1","PowerState":"On","Members":[{"@odata.id":"/redfish/v1/Systems/1"}],"Links":{"Sessions":{"@odata.id":"/s"}},` +
		`"Boot":{"BootSourceOverrideTarget":"Pxe","BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget@Redfish.AllowableValues":["Pxe"]},` +
		`"Actions":{"#ComputerSystem.Reset":{"target":"/r","@Redfish.ActionInfo":"/i"}},"Parameters":[{"Name":"ResetType","AllowableValues":["On"]}],` +
		`"@Redfish.Settings":{"SettingsObject":{"@odata.id":"/p"}}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"Members":[null,{"@odata.id":"@elsewhere/"}],"Boot":null}`))
	node := &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{Power: &v1alpha1.PowerSpec{
		Redfish: &v1alpha1.RedfishSpec{Endpoint: "https://192.0.2.1"},
	}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		passing := &virtualTime{now: time.Unix(1e9, 0)}
		timing := passing.timing()
		timing.Within = 10 * time.Second
		b := newRedfish(node, Options{Timing: timing})
		for _, do := range []func(*session) error{
			func(s *session) error { _, err := s.state(t.Context()); return err },
			func(s *session) error { return s.turnOn(t.Context()) },
			func(s *session) error { return s.turnOff(t.Context(), time.Second) },
			func(s *session) error { return s.bootFromNetwork(t.Context()) },
		} {
			carrier, err := guard(b.endpoint, nil, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			carrier.base = answering{body, http.Header{"X-Auth-Token": {"t"}, "Location": {"/s/1"}, "Etag": {`W/"1"`}}}
			s := &session{board: b, carrier: carrier, secret: map[string][]byte{KeyUsername: []byte("u"), KeyPassword: []byte("p")}}
			if err := do(s); err != nil {
				_ = s.explain("cannot", err).Error()
			}
			s.leave()
		}
	})
}

// Whatever a service answers is a state or an error.
func FuzzWebhookAnswers(f *testing.F) {
	f.Add(200, []byte(`{"state":"on"}`))
	f.Add(503, []byte(`{"message":"busy"}`))
	f.Add(401, []byte("\xff"))
	w := newWebhook(&v1alpha1.Node{Spec: v1alpha1.NodeSpec{Power: &v1alpha1.PowerSpec{Webhook: &v1alpha1.WebhookSpec{URL: "https://192.0.2.1"}}}}, Options{})
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := &call{webhook: w, token: []byte("t")}
		state, err := c.read(status, body)
		if err == nil && (status != http.StatusOK || state != On && state != Off && state != Unknown) {
			t.Errorf("%d %q: %q", status, body, state)
		}
		_ = c.explain("cannot", err)
	})
}
