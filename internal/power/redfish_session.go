package power

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/common"
	"github.com/stmcginnis/gofish/redfish"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// logoutWithin is how long a controller may take to end a session. It keeps few,
// and one that is left open lasts for minutes.
const logoutWithin = 10 * time.Second

// systemsPath is where the systems of a controller are listed (DSP0266, "Redfish-
// defined URIs").
const systemsPath = "/redfish/v1/Systems"

// session is one visit to a controller. It is used by one goroutine.
type session struct {
	*board
	carrier *guarded
	secret  map[string][]byte
	client  *gofish.APIClient // nil: not connected
	uri     string            // of the system, once it is known
}

// with visits the controller. The session is ended even when ctx has ended.
func (b *board) with(ctx context.Context, doing string, visit func(*session) error) error {
	secret, err := b.readSecret(ctx, b.secrets, b.spec.Credentials.Name, KeyUsername, KeyPassword)
	if err != nil {
		return err
	}
	config, err := trust(b.spec.Fingerprint, secret[KeyAuthority])
	if err != nil {
		return b.fault(v1alpha1.ReasonPowerCredentials, doing, "put the authority's certificate there as it begins with -----BEGIN CERTIFICATE-----", err)
	}
	carrier, err := guard(b.endpoint, config, b.timing.Request)
	if err != nil {
		return b.fault(v1alpha1.ReasonPowerUnsupported, doing, "write it as https://192.168.1.20", err)
	}
	s := &session{board: b, carrier: carrier, secret: secret}
	carrier.use(ctx)
	defer func() {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutWithin)
		defer cancel()
		carrier.use(leaving)
		s.leave()
		carrier.close()
	}()
	if err := visit(s); err != nil {
		return s.explain(doing, err)
	}
	return nil
}

func (s *session) leave() {
	if s.client != nil {
		s.client.Logout()
		s.client = nil
	}
}

// connect logs in: by a session, or where there are none, with the user name and
// password in every request.
func (s *session) connect() error {
	config := gofish.ClientConfig{
		Endpoint: s.endpoint, Username: string(s.secret[KeyUsername]), Password: string(s.secret[KeyPassword]),
		HTTPClient: s.carrier.client(),
	}
	// The carrier has the context.
	client, err := gofish.ConnectContext(context.Background(), config)
	if lacksSessions(client, err) {
		config.BasicAuth = true
		client, err = gofish.ConnectContext(context.Background(), config)
	}
	if refusesLogin(err) {
		return s.wrongCredentials(err)
	}
	if err != nil {
		return err
	}
	s.client = client
	return nil
}

func (s *session) wrongCredentials(err error) error {
	return s.fault(v1alpha1.ReasonPowerCredentials, "cannot log in",
		fmt.Sprintf("correct %s and %s in the Secret %s; mind that controllers lock accounts after some failures",
			KeyUsername, KeyPassword, s.spec.Credentials.Name), s.plain(err))
}

func (s *session) forbidden(doing string, err error) error {
	return s.fault(v1alpha1.ReasonPowerRefused, doing, "give the account the right to control power and to set the boot device (the role Operator, or more)", s.plain(err))
}

func (s *session) plain(err error) error {
	basic := base64.StdEncoding.EncodeToString(slices.Concat(s.secret[KeyUsername], []byte(":"), s.secret[KeyPassword]))
	return plain(err, 600, s.secret[KeyPassword], []byte(basic))
}

// system reads the machine's system. A session that the controller does not know
// any more, as after it restarted, is made anew once.
func (s *session) system() (*redfish.ComputerSystem, error) {
	if err := s.find(); err != nil {
		return nil, err
	}
	return s.resource(s.uri)
}

// resource reads a system, or what is like it.
func (s *session) resource(uri string) (system *redfish.ComputerSystem, err error) {
	err = s.loggedIn(func() error {
		system, err = redfish.GetComputerSystem(s.client, uri)
		return err
	})
	return system, err
}

// loggedIn does what takes a session.
func (s *session) loggedIn(do func() error) error {
	for fresh := false; ; {
		if s.client == nil {
			if err := s.connect(); err != nil {
				return err
			}
			fresh = true
		}
		err := do()
		if statusOf(err) != http.StatusUnauthorized {
			return err
		}
		if fresh {
			return s.wrongCredentials(err)
		}
		s.client = nil
	}
}

// find finds the system that is the machine: the one that the Node names, or the
// only one.
func (s *session) find() error {
	if s.uri != "" {
		return nil
	}
	if id := s.spec.SystemID; id != "" {
		uri := systemsPath + "/" + id
		switch _, err := s.resource(uri); {
		case err == nil:
			s.uri = uri
			return nil
		case statusOf(err) != http.StatusNotFound:
			return err
		}
	}
	var links []string
	err := s.loggedIn(func() error {
		collection, err := common.GetCollection(s.client, systemsPath)
		if err == nil {
			links = collection.ItemLinks
		}
		return err
	})
	if err != nil {
		return err
	}
	var ids []string
	for _, link := range links {
		ids = append(ids, path.Base(link))
	}
	at := slices.Index(ids, s.spec.SystemID)
	if s.spec.SystemID == "" && len(links) == 1 {
		at = 0
	}
	if at < 0 {
		return s.fault(v1alpha1.ReasonPowerUnsupported, "cannot tell which of its systems is the machine", "set systemID to the machine's",
			fmt.Errorf("systemID is %q, and the controller has %d systems: %s", s.spec.SystemID, len(ids), strings.Join(ids[:min(len(ids), 16)], ", ")))
	}
	s.uri = links[at]
	return nil
}

// explain makes a Fault of an error.
func (s *session) explain(doing string, err error) error {
	var f *Fault
	if errors.As(err, &f) {
		return err
	}
	bare := s.plain(err)
	switch status := statusOf(err); {
	case untrusted(err):
		return s.fault(v1alpha1.ReasonPowerCertificate, doing, trustFix, bare)
	case errors.Is(err, ErrUnproven):
		return s.fault(v1alpha1.ReasonPowerUnproven, doing, "look at the machine and at the controller's own log", unproven(bare))
	case status >= 400 && status < 500:
		return s.fault(v1alpha1.ReasonPowerRefused, doing, "see the controller's own log", bare)
	}
	return s.fault(v1alpha1.ReasonPowerUnreachable, doing, "see that the controller has power and can be reached from the cluster", bare)
}

// statusOf is the HTTP status that a controller answered with; 0: there is none.
func statusOf(err error) int {
	var e *common.Error
	if errors.As(err, &e) {
		return e.HTTPReturnedStatusCode
	}
	return 0
}
