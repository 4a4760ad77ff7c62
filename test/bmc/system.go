package bmc

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

const (
	actions  = "Actions/ComputerSystem.Reset"
	info     = "ResetActionInfo"
	settings = "Settings"
)

// ofSystem answers about one system and what lies below it.
func (c *Controller) ofSystem(w http.ResponseWriter, r *http.Request, s *system, rest string) {
	switch {
	case rest == "" && r.Method == http.MethodGet:
		c.show(w, s)
	case rest == "" && r.Method == http.MethodPatch && !c.Habits.Pending,
		rest == settings && r.Method == http.MethodPatch && c.Habits.Pending:
		c.change(w, r, s)
	case rest == "" && r.Method == http.MethodPatch:
		refuse(w, http.StatusBadRequest, "OperationSupportedInFutureStateURI", "boot settings are changed at "+s.path()+"/"+settings)
	case rest == settings && r.Method == http.MethodGet && c.Habits.Pending:
		c.mu.Lock()
		body := object{
			"@odata.id": s.path() + "/" + settings, "@odata.type": "#ComputerSystem.v1_10_0.ComputerSystem", "Id": settings, "Name": "Pending settings",
			"Boot": c.bootOf(s),
		}
		w.Header().Set("ETag", c.tagOf(s))
		c.mu.Unlock()
		answer(w, http.StatusOK, body)
	case rest == info && r.Method == http.MethodGet && c.Habits.ListsElsewhere:
		answer(w, http.StatusOK, object{
			"@odata.id": s.path() + "/" + info, "@odata.type": "#ActionInfo.v1_1_2.ActionInfo", "Id": info, "Name": "Reset Action Info",
			"Parameters": []object{{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": c.resetTypes()}},
		})
	case rest == actions && r.Method == http.MethodPost:
		c.reset(w, r, s)
	default:
		refuse(w, http.StatusNotFound, "ResourceMissingAtURI", "there is no such resource")
	}
}

func (s *system) path() string { return root + "/Systems/" + s.id }

func (c *Controller) resetTypes() []string {
	if c.Habits.ResetTypes != nil {
		return c.Habits.ResetTypes
	}
	return []string{"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "PushPowerButton"}
}

func (c *Controller) targets() []string {
	if c.Habits.Targets != nil {
		return c.Habits.Targets
	}
	return []string{"None", "Pxe", "Cd", "Hdd", "BiosSetup"}
}

func (c *Controller) bootOf(s *system) object {
	return object{
		"BootSourceOverrideEnabled": s.boot.Enabled, "BootSourceOverrideTarget": s.boot.Target, "BootSourceOverrideMode": s.boot.Mode,
		"BootSourceOverrideEnabled@Redfish.AllowableValues": []string{"Disabled", "Once", "Continuous"},
		"BootSourceOverrideTarget@Redfish.AllowableValues":  c.targets(),
		"BootSourceOverrideMode@Redfish.AllowableValues":    []string{"Legacy", "UEFI"},
	}
}

func (c *Controller) tagOf(s *system) string {
	tag := fmt.Sprintf(`"%d"`, s.tag)
	if c.Habits.WeakTags {
		return "W/" + tag
	}
	return tag
}

func (c *Controller) show(w http.ResponseWriter, s *system) {
	state := "Off"
	if s.machine.Running() {
		state = "On"
	}
	c.mu.Lock()
	reset := object{"target": s.path() + "/" + actions}
	if c.Habits.ListsElsewhere {
		reset["@Redfish.ActionInfo"] = s.path() + "/" + info
	} else {
		reset["ResetType@Redfish.AllowableValues"] = c.resetTypes()
	}
	maker := c.Habits.Manufacturer
	if maker == "" {
		maker = "Nobody"
	}
	boot := c.bootOf(s)
	body := object{
		"@odata.id": s.path(), "@odata.type": "#ComputerSystem.v1_10_0.ComputerSystem", "@odata.etag": c.tagOf(s),
		"Id": s.id, "Name": s.id, "SystemType": "Virtual", "Manufacturer": maker, "Model": "Stand-in",
		"Status": object{"State": "Enabled", "Health": "OK"}, "PowerState": state, "Boot": boot,
		"Actions": object{"#ComputerSystem.Reset": reset},
	}
	if c.Habits.Pending {
		body["@Redfish.Settings"] = object{"@odata.type": "#Settings.v1_3_0.Settings", "SettingsObject": link(s.path() + "/" + settings)}
	}
	w.Header().Set("ETag", c.tagOf(s))
	c.mu.Unlock()
	answer(w, http.StatusOK, body)
}

// change is a PATCH of a system: of its boot override, and nothing else.
func (c *Controller) change(w http.ResponseWriter, r *http.Request, s *system) {
	var patch struct {
		Boot struct {
			Enabled *string `json:"BootSourceOverrideEnabled"`
			Target  *string `json:"BootSourceOverrideTarget"`
			Mode    *string `json:"BootSourceOverrideMode"`
		}
	}
	if err := strictly(r.Body, &patch); err != nil {
		refuse(w, http.StatusBadRequest, "PropertyUnknown", err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tag := strings.TrimPrefix(c.tagOf(s), "W/")
	switch match := r.Header.Get("If-Match"); {
	case match == "" && c.Habits.TagRequired:
		refuse(w, http.StatusPreconditionRequired, "PreconditionRequired", "If-Match is missing")
		return
	case match != "" && match != "*" && match != tag:
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed", "the ETag is not "+match)
		return
	}
	next := s.boot
	b := patch.Boot
	for _, one := range []struct {
		value   *string
		to      *string
		allowed []string
	}{
		{b.Enabled, &next.Enabled, []string{"Disabled", "Once", "Continuous"}},
		{b.Target, &next.Target, c.targets()},
		{b.Mode, &next.Mode, []string{"Legacy", "UEFI"}},
	} {
		if one.value == nil {
			continue
		}
		if !slices.Contains(one.allowed, *one.value) {
			refuse(w, http.StatusBadRequest, "PropertyValueNotInList", *one.value+" is none of "+strings.Join(one.allowed, ", "))
			return
		}
		*one.to = *one.value
	}
	if b.Mode != nil && c.Habits.RefusesMode {
		refuse(w, http.StatusBadRequest, "PropertyNotWritable", "BootSourceOverrideMode cannot be written")
		return
	}
	if !s.deaf && (b.Mode != nil || !c.Habits.NeedsMode) {
		s.boot = next
	}
	s.tag++
	w.WriteHeader(http.StatusNoContent)
}

// reset is the action ComputerSystem.Reset.
func (c *Controller) reset(w http.ResponseWriter, r *http.Request, s *system) {
	var parameters struct{ ResetType string }
	if err := strictly(r.Body, &parameters); err != nil {
		refuse(w, http.StatusBadRequest, "ActionParameterUnknown", err.Error())
		return
	}
	kind := parameters.ResetType
	c.mu.Lock()
	if !slices.Contains(c.resetTypes(), kind) {
		c.mu.Unlock()
		refuse(w, http.StatusBadRequest, "ActionParameterNotSupported", kind+" is not supported")
		return
	}
	c.resets = append(c.resets, s.id+" "+kind)
	deaf := s.deaf
	c.mu.Unlock()
	var err error
	if !deaf {
		err = c.carryOut(r, s, kind)
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (c *Controller) carryOut(r *http.Request, s *system, kind string) error {
	m := s.machine
	switch kind {
	case "ForceOff":
		m.PowerOff()
		return nil
	case "GracefulShutdown":
		return m.Shutdown(r.Context())
	case "PushPowerButton":
		if m.Running() {
			return m.Shutdown(r.Context())
		}
	case "Nmi":
		return nil
	case "GracefulRestart", "ForceRestart", "PowerCycle":
		c.start(s)
		if m.Running() {
			return m.Reset(r.Context())
		}
	}
	if m.Running() {
		return nil
	}
	c.start(s)
	return m.PowerOn(r.Context())
}

// start is what the firmware does when it starts: it takes the boot override, which
// is gone then.
func (c *Controller) start(s *system) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.boot.Enabled != "Once" {
		return
	}
	if m, ok := s.machine.(NetworkBooter); ok && s.boot.Target == "Pxe" {
		m.BootFromNetworkOnce()
	}
	s.boot.Enabled, s.boot.Target = "Disabled", "None"
	s.tag++
}
