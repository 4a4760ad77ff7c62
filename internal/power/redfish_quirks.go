package power

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/common"
	"github.com/stmcginnis/gofish/redfish"
)

// What controllers do differently, each with the place where it is told of. A quirk
// changes in which order things are tried; what counts in the end is what the
// controller then shows.

// lacksSessions says whether logging in failed since the controller has no sessions
// (the sushy-tools emulator has none, nor have some small ones): it is then asked
// with user name and password in each request, inside TLS as ever.
func lacksSessions(client *gofish.APIClient, err error) bool {
	if err == nil {
		session, e := client.GetSession()
		return e != nil || session.Token == ""
	}
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	// The service root names no sessions.
	return strings.Contains(err.Error(), "no target provided")
}

// refusesLogin says whether logging in failed since the user name or password is
// wrong. Older iLO answer 400 with the message UnauthorizedLoginAttempt.
func refusesLogin(err error) bool {
	switch statusOf(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return true
	case http.StatusBadRequest:
		return strings.Contains(err.Error(), "UnauthorizedLogin")
	}
	return false
}

// bootSettings is what matters of a system's Boot. gofish leaves the lists of
// allowed values out.
type bootSettings struct {
	Target          string   `json:"BootSourceOverrideTarget"`
	Enabled         string   `json:"BootSourceOverrideEnabled"`
	Mode            string   `json:"BootSourceOverrideMode"`
	AllowedTargets  []string `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	AllowedEnabling []string `json:"BootSourceOverrideEnabled@Redfish.AllowableValues"`
}

// bootOf reads a resource's boot override. An error says why the machine cannot be
// told to boot from the network once.
func bootOf(resource *redfish.ComputerSystem) (bootSettings, error) {
	var system struct{ Boot *bootSettings }
	if err := json.Unmarshal(resource.RawData, &system); err != nil {
		return bootSettings{}, fmt.Errorf("cannot read its boot settings: %w", err)
	}
	switch b := system.Boot; {
	case b == nil:
		return bootSettings{}, errors.New("the controller says nothing of boot settings")
	case len(b.AllowedTargets) > 0 && !slices.Contains(b.AllowedTargets, string(redfish.PxeBootSourceOverrideTarget)):
		return *b, fmt.Errorf("the controller offers the boot sources %v, and not Pxe", b.AllowedTargets)
	case len(b.AllowedEnabling) > 0 && !slices.Contains(b.AllowedEnabling, string(redfish.OnceBootSourceOverrideEnabled)):
		return *b, fmt.Errorf("the controller can override the boot source %v, and not Once", b.AllowedEnabling)
	}
	return *system.Boot, nil
}

// way is one way to set the boot override.
type way struct {
	uri  string
	mode string // sent too if it is not empty
}

func (w way) String() string {
	if w.mode != "" {
		return w.uri + " with the mode " + w.mode
	}
	return w.uri
}

func (w way) payload() map[string]any {
	boot := map[string]any{
		"BootSourceOverrideEnabled": redfish.OnceBootSourceOverrideEnabled,
		"BootSourceOverrideTarget":  redfish.PxeBootSourceOverrideTarget,
	}
	if w.mode != "" {
		boot["BootSourceOverrideMode"] = w.mode
	}
	return map[string]any{"Boot": boot}
}

// waysOf are the ways to set the boot override, the likeliest first.
//
// Where: AMI's firmware takes it at the resource that @Redfish.Settings names (DMTF
// Redfish-Tacklebox issue 144), Dell's at the system itself and not there (NVIDIA
// libredfish pull request 75).
//
// The mode: Supermicro's falls back to its default unless it is sent along (DMTF
// Redfishtool pull request 106); others refuse it (ansible community.general pull
// request 3581).
func waysOf(system *redfish.ComputerSystem, boot bootSettings) []way {
	maker := strings.ToLower(system.Manufacturer)
	uris := []string{system.ODataID}
	if pending := settingsOf(system.RawData); pending != "" && pending != system.ODataID {
		if strings.Contains(maker, "dell") {
			uris = append(uris, pending)
		} else {
			uris = []string{pending, system.ODataID}
		}
	}
	modes := []string{""}
	if boot.Mode != "" {
		modes = append(modes, boot.Mode)
	}
	if strings.Contains(maker, "supermicro") {
		if boot.Mode == "" {
			modes = append(modes, string(redfish.UEFIBootSourceOverrideMode))
		}
		slices.Reverse(modes)
	}
	var ways []way
	for _, uri := range uris {
		for _, mode := range modes {
			ways = append(ways, way{uri, mode})
		}
	}
	return ways
}

// settingsOf is the resource that a system's @Redfish.Settings names.
func settingsOf(raw []byte) string {
	var system struct {
		Settings struct{ SettingsObject common.Link } `json:"@Redfish.Settings"`
	}
	if json.Unmarshal(raw, &system) != nil {
		return ""
	}
	return system.Settings.SettingsObject.String()
}

// patch changes a resource if it is as it was read (DSP0266, "Modification success
// responses" and "ETags"). Controllers show weak tags and take only strong ones, or
// take none that they themselves gave: it is tried in this order, as sushy does
// (its connector's ETag handling). What changed meanwhile is read again by the
// caller, who looks before and after.
func (s *session) patch(uri string, resource *redfish.ComputerSystem, payload map[string]any) error {
	err := resource.Patch(uri, payload)
	if !isPrecondition(err) {
		return err
	}
	fresh, err := s.resource(uri)
	if err != nil {
		return err
	}
	if err = fresh.Patch(uri, payload); !isPrecondition(err) {
		return err
	}
	for _, header := range []map[string]string{{"If-Match": strong(fresh)}, {}, {"If-Match": "*"}} {
		if header["If-Match"] == "" && len(header) > 0 {
			continue
		}
		resp, e := s.client.PatchWithHeaders(uri, payload, header)
		if e == nil {
			return resp.Body.Close()
		}
		if err = e; !isPrecondition(err) {
			break
		}
	}
	return err
}

// strong is the tag in a resource's own text, without the mark of a weak one.
func strong(resource *redfish.ComputerSystem) string {
	var tagged struct {
		Tag string `json:"@odata.etag"`
	}
	if json.Unmarshal(resource.RawData, &tagged) != nil {
		return ""
	}
	return strings.TrimPrefix(tagged.Tag, "W/")
}

func isPrecondition(err error) bool {
	status := statusOf(err)
	return status == http.StatusPreconditionFailed || status == http.StatusPreconditionRequired
}

// isRefusal says whether asking again in the same way is of no use.
func isRefusal(err error) bool {
	switch status := statusOf(err); status {
	case http.StatusConflict, http.StatusTooManyRequests, http.StatusUnauthorized:
		return false
	default:
		return status >= 400 && status < 500 || status == http.StatusNotImplemented
	}
}
