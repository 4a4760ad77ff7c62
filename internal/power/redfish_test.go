package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/bmc"
)

// The kinds of controllers that there are.
var kinds = map[string]bmc.Habits{
	"by the book":                        {},
	"without sessions":                   {NoSessions: true},
	"lists its reset types elsewhere":    {ListsElsewhere: true},
	"weak ETags":                         {WeakTags: true},
	"insists on an ETag":                 {TagRequired: true},
	"insists on an ETag, and shows weak": {TagRequired: true, WeakTags: true},
	"needs the mode":                     {NeedsMode: true, Manufacturer: "Supermicro"},
	"needs the mode, and is unknown":     {NeedsMode: true},
	"refuses the mode":                   {RefusesMode: true},
	"refuses the mode, as no Supermicro": {RefusesMode: true, Manufacturer: "Supermicro"},
	"takes settings for later":           {Pending: true},
	"takes settings for later, as Dell":  {Pending: true, Manufacturer: "Dell Inc."},
	"only force":                         {ResetTypes: []string{"ForceOn", "ForceOff", "ForceRestart"}},
	"offers little to boot from":         {Targets: []string{"None", "Pxe"}},
}

func TestEveryKindOfControllerIsDrivenAndProven(t *testing.T) {
	for name, habits := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setUp(t, habits)
			d := s.driver(t)
			ctx := t.Context()
			is := func(want State) {
				t.Helper()
				if got, err := d.State(ctx); err != nil || got != want || s.machine.Running() != (want == On) {
					t.Fatalf("the state is %s, %v, want %s", got, err, want)
				}
			}
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			is(Off)
			do(d.BootFromNetwork(ctx))
			if got := s.BootOverride("1"); !strings.HasPrefix(got, "Pxe Once ") {
				t.Fatalf("the boot override is %q", got)
			}
			do(d.TurnOn(ctx))
			is(On)
			if s.machine.network != 1 || s.BootOverride("1") != "None Disabled UEFI" {
				t.Errorf("the machine was told %d times to boot from the network; then the override is %q", s.machine.network, s.BootOverride("1"))
			}
			do(d.TurnOn(ctx)) // again: nothing happens
			do(d.Cycle(ctx, 0))
			is(On)
			if s.machine.starts != 2 {
				t.Errorf("the machine started %d times, want 2", s.machine.starts)
			}
			do(d.TurnOff(ctx, time.Minute))
			is(Off)
			do(d.TurnOff(ctx, 0))
			do(d.Cycle(ctx, 0))
			is(On)
			s.left(t)
			if _, ever := s.Sessions(); (ever == 0) != habits.NoSessions {
				t.Errorf("%d sessions were opened", ever)
			}
		})
	}
}

func TestPowerIsCutWhenTheOperatingSystemDoesNotShutDown(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	s.machine.on, s.machine.stubborn = true, true
	if err := s.driver(t).TurnOff(t.Context(), time.Minute); err != nil || s.machine.Running() {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1 GracefulShutdown", "1 ForceOff"}, s.Resets()); diff != "" {
		t.Errorf("resets (-want +got):\n%s", diff)
	}
	if passed := s.time.now.Sub(time.Unix(1e9, 0)); passed < time.Minute {
		t.Errorf("the operating system had %s, want a minute", passed)
	}
}

func TestARestartInOneStepProvesNothing(t *testing.T) {
	s := setUp(t, bmc.Habits{ResetTypes: []string{"On", "ForceRestart"}})
	s.machine.on = true
	err := s.driver(t).Cycle(t.Context(), 0)
	mustBe(t, err, v1alpha1.ReasonPowerUnproven)
	if !errors.Is(err, ErrUnproven) || s.machine.starts != 1 {
		t.Errorf("%v, %d starts", err, s.machine.starts)
	}
	mustBe(t, s.driver(t).TurnOff(t.Context(), time.Minute), v1alpha1.ReasonPowerUnsupported, "[On ForceRestart]", "ForceOff")
	s.left(t)
}

func TestAMachineThatCannotBootFromTheNetworkOnceIsRefused(t *testing.T) {
	s := setUp(t, bmc.Habits{Targets: []string{"None", "Hdd"}})
	mustBe(t, s.driver(t).BootFromNetwork(t.Context()), v1alpha1.ReasonPowerUnsupported, "[None Hdd]", "Pxe")
}

func TestOneOfSeveralSystemsIsChosenByItsID(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	other := &toy{}
	s.Add("Blade.2", other)
	d := s.driver(t)
	mustBe(t, d.TurnOn(t.Context()), v1alpha1.ReasonPowerUnsupported, "2 systems: 1, Blade.2", "systemID")
	s.node.Spec.Power.Redfish.SystemID = "Blade.3"
	mustBe(t, s.driver(t).TurnOn(t.Context()), v1alpha1.ReasonPowerUnsupported, "Blade.3", "1, Blade.2")
	s.node.Spec.Power.Redfish.SystemID = "Blade.2"
	if err := s.driver(t).TurnOn(t.Context()); err != nil || !other.Running() || s.machine.Running() {
		t.Errorf("%v", err)
	}
	s.left(t)
}

func TestTheEndpointMayBeWrittenAsABrowserShowsIt(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	bare := s.node.Spec.Power.Redfish.Endpoint
	for _, tail := range []string{"/", "/redfish", "/redfish/v1", "/redfish/v1/"} {
		s.node.Spec.Power.Redfish.Endpoint = bare + tail
		if _, err := s.driver(t).State(t.Context()); err != nil {
			t.Errorf("%s: %v", tail, err)
		}
	}
}

func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	for name, habits := range map[string]bmc.Habits{"session": {}, "basic": {NoSessions: true}} {
		s := setUp(t, habits)
		s.secret[KeyPassword] = []byte("wrong " + password)
		mustBe(t, s.driver(t).TurnOn(t.Context()), v1alpha1.ReasonPowerCredentials, "alpha-bmc", "401")
		tries := 0
		for _, r := range s.Requests() {
			if r != "GET /redfish/v1/" {
				tries++
			}
		}
		if tries != 1 {
			t.Errorf("%s: the password was tried %d times: controllers lock accounts", name, tries)
		}
	}
}

func TestASecretThatLacksSomethingIsNamed(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	delete(s.secret, KeyPassword)
	mustBe(t, s.driver(t).TurnOn(t.Context()), v1alpha1.ReasonPowerCredentials, "alpha-bmc", KeyPassword)
	s.node.Spec.Power.Redfish.Credentials.Name = "other"
	mustBe(t, s.driver(t).TurnOn(t.Context()), v1alpha1.ReasonPowerCredentials, "create the Secret other")
	if got := s.Requests(); len(got) != 0 {
		t.Errorf("the controller was asked: %v", got)
	}
}

func TestOnlyTheRightCertificateIsTrusted(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	before, _ := s.Fingerprint()
	s.ReplaceCertificate()
	after, _ := s.Fingerprint()
	mustBe(t, s.driver(t).TurnOn(t.Context()), v1alpha1.ReasonPowerCertificate, before, after)

	s.trustAuthority(t)
	if err := s.driver(t).TurnOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ReplaceCertificate()
	mustBe(t, s.driver(t).TurnOff(t.Context(), 0), v1alpha1.ReasonPowerCertificate)
	s.secret[KeyAuthority] = []byte("not PEM")
	mustBe(t, s.driver(t).TurnOff(t.Context(), 0), v1alpha1.ReasonPowerCredentials, KeyAuthority)
	delete(s.secret, KeyAuthority)
	mustBe(t, s.driver(t).TurnOff(t.Context(), 0), v1alpha1.ReasonPowerCertificate)
	if !s.machine.Running() {
		t.Error("the machine was turned off by somebody who is not trusted")
	}
}

// Whatever fails for a while in the middle, it goes on.
func TestAControllerThatFailsForAWhileIsAskedAgain(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter){
		"it is busy":             func(w http.ResponseWriter) { bmc.Refuse(w, http.StatusServiceUnavailable, "busy") },
		"it breaks off":          bmc.Hang,
		"it has an error":        func(w http.ResponseWriter) { bmc.Refuse(w, http.StatusInternalServerError, "oops") },
		"it answers no JSON":     func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"it answers null":        func(w http.ResponseWriter) { fmt.Fprint(w, "null") },
		"it answers an array":    func(w http.ResponseWriter) { fmt.Fprint(w, "[null]") },
		"it answers nothing":     func(http.ResponseWriter) {},
		"it redirects":           func(w http.ResponseWriter) { w.Header().Set("Location", "https://192.0.2.1/"); w.WriteHeader(307) },
		"it never stops":         func(w http.ResponseWriter) { fmt.Fprintf(w, `{"Name":%q}`, strings.Repeat("x", maxAnswer)) },
		"it knows no resource":   func(w http.ResponseWriter) { bmc.Refuse(w, http.StatusNotFound, "gone") },
		"it is in the way":       func(w http.ResponseWriter) { bmc.Refuse(w, http.StatusConflict, "powering off") },
		"it answers wrong types": func(w http.ResponseWriter) { fmt.Fprint(w, `{"PowerState":7,"Members":"x","Links":[]}`) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setUp(t, bmc.Habits{})
			var mu sync.Mutex
			dice := rand.New(rand.NewPCG(1, 2))
			s.Interrupt(func(w http.ResponseWriter, r *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if strings.Contains(r.URL.Path, "Session") || dice.IntN(3) != 0 {
					return false
				}
				fault(w)
				return true
			})
			d := s.driver(t)
			for _, do := range []func(context.Context) error{
				d.BootFromNetwork, d.TurnOn, func(ctx context.Context) error { return d.TurnOff(ctx, time.Minute) },
			} {
				if err := do(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if s.machine.network != 1 || s.machine.starts != 1 || s.machine.Running() {
				t.Errorf("%d starts, %d from the network", s.machine.starts, s.machine.network)
			}
		})
	}
}

func TestAControllerThatRestartsInTheMiddleIsLoggedInToAgain(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	s.machine.on, s.machine.stubborn = true, true
	looks := 0
	s.Interrupt(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && r.URL.Path == "/redfish/v1/Systems/1" {
			if looks++; looks%4 == 0 {
				s.Restart()
			}
		}
		return false
	})
	if err := s.driver(t).Cycle(t.Context(), time.Minute); err != nil || s.machine.starts != 1 {
		t.Errorf("%v, %d starts", err, s.machine.starts)
	}
	s.left(t)
	if _, ever := s.Sessions(); ever < 2 {
		t.Errorf("%d sessions: it did not restart", ever)
	}
}

func TestAMachineThatDoesNotFollowIsUnproven(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	s.Deafen("1", true)
	d := s.driver(t)
	err := d.TurnOn(t.Context())
	mustBe(t, err, v1alpha1.ReasonPowerUnproven, "not On after 2m", "Off")
	if !errors.Is(err, ErrUnproven) {
		t.Errorf("%v is not ErrUnproven", err)
	}
	if n := len(s.Resets()); n < 2 || n > 5 {
		t.Errorf("it was told %d times in two minutes", n)
	}
	mustBe(t, d.BootFromNetwork(t.Context()), v1alpha1.ReasonPowerUnproven, `target "None"`)
	s.left(t)
}

func TestAnETagThatIsStaleIsReadAgain(t *testing.T) {
	s := setUp(t, bmc.Habits{TagRequired: true})
	stale := 2
	s.Interrupt(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch && stale > 0 {
			stale--
			s.Touch("1")
		}
		return false
	})
	if err := s.driver(t).BootFromNetwork(t.Context()); err != nil || s.BootOverride("1") != "Pxe Once UEFI" {
		t.Errorf("%v: %s", err, s.BootOverride("1"))
	}
}

func TestAnAccountWithoutTheRightIsSaidToLackIt(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	s.Interrupt(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch || strings.HasSuffix(r.URL.Path, ".Reset") {
			bmc.Refuse(w, http.StatusForbidden, "InsufficientPrivilege")
			return true
		}
		return false
	})
	d := s.driver(t)
	mustBe(t, d.TurnOn(t.Context()), v1alpha1.ReasonPowerRefused, "Operator", "403")
	mustBe(t, d.BootFromNetwork(t.Context()), v1alpha1.ReasonPowerRefused, "Operator", "403")
}

func TestAControllerThatRepeatsThePasswordIsNotQuoted(t *testing.T) {
	for _, secret := range []string{password, `with "quotes" and \`} {
		s := setUp(t, bmc.Habits{NoSessions: true})
		s.secret[KeyPassword] = []byte(secret)
		s.Interrupt(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/redfish/v1/" {
				return false
			}
			bmc.Refuse(w, http.StatusUnauthorized, "the password "+secret+" is wrong\x1b[2J: "+r.Header.Get("Authorization"))
			return true
		})
		err := s.driver(t).TurnOn(t.Context())
		mustBe(t, err, v1alpha1.ReasonPowerCredentials, "the password (secret) is wrong", "Basic (secret)")
	}
}

func TestALinkToAnotherPlaceIsNotFollowed(t *testing.T) {
	for _, link := range []string{"@192.0.2.1/redfish/v1/Systems/1", ".example.org/x", ":1/x"} {
		s := setUp(t, bmc.Habits{})
		s.Interrupt(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/redfish/v1/Systems" {
				return false
			}
			fmt.Fprintf(w, `{"Members":[{"@odata.id":%q}]}`, link)
			return true
		})
		_, err := s.driver(t).State(t.Context())
		mustBe(t, err, v1alpha1.ReasonPowerUnreachable)
		if !strings.Contains(err.Error(), "not followed") && !strings.Contains(err.Error(), "invalid port") {
			t.Errorf("%s: %v", link, err)
		}
	}
}

func TestSlowAnswersEndWithTheirTime(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	s.timing.Request = 50 * time.Millisecond
	slow := make(chan struct{})
	t.Cleanup(func() { close(slow) })
	s.Interrupt(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/Systems/1") {
			return false
		}
		// The head comes at once, the rest never.
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-slow
		return true
	})
	_, err := s.driver(t).State(t.Context())
	mustBe(t, err, v1alpha1.ReasonPowerUnreachable)
}

func TestTheSessionIsEndedThoughTheWorkIsCutShort(t *testing.T) {
	s := setUp(t, bmc.Habits{})
	s.Deafen("1", true)
	ctx, cancel := context.WithCancel(t.Context())
	s.Interrupt(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".Reset") {
			cancel()
		}
		return false
	})
	if err := s.driver(t).TurnOn(ctx); err == nil {
		t.Error("it was not cut short")
	}
	s.left(t)
	if _, ever := s.Sessions(); ever != 1 {
		t.Errorf("%d sessions", ever)
	}
}
