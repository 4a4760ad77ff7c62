package power

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stmcginnis/gofish/redfish"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// board drives a board management controller by Redfish (DMTF DSP0266).
type board struct {
	target
	spec     v1alpha1.RedfishSpec
	endpoint string
	secrets  Secrets
	timing   Timing
}

func newRedfish(node *v1alpha1.Node, o Options) *board {
	spec := *node.Spec.Power.Redfish
	// The service root is added again: some write it, as a browser shows it.
	endpoint := strings.TrimRight(spec.Endpoint, "/")
	endpoint = strings.TrimSuffix(endpoint, "/v1")
	endpoint = strings.TrimSuffix(endpoint, "/redfish")
	return &board{
		target: target{node: node.Name, field: "spec.power.redfish", url: endpoint},
		spec:   spec, endpoint: endpoint, secrets: o.Secrets, timing: o.Timing.orDefaults(),
	}
}

// Means implements Driver.
func (b *board) Means() Means { return MeansRedfish }

// State implements Prover.
func (b *board) State(ctx context.Context) (State, error) {
	state := Unknown
	err := b.with(ctx, "cannot read the machine's power state", func(s *session) error {
		var err error
		state, err = s.state(ctx)
		return err
	})
	return state, err
}

// TurnOn implements TurnerOn.
func (b *board) TurnOn(ctx context.Context) error {
	return b.with(ctx, "cannot turn the machine on", func(s *session) error { return s.turnOn(ctx) })
}

// TurnOff implements TurnerOff.
func (b *board) TurnOff(ctx context.Context, grace time.Duration) error {
	return b.with(ctx, "cannot turn the machine off", func(s *session) error { return s.turnOff(ctx, grace) })
}

// Cycle implements Cycler: off, seen to be off, on, seen to be on. A restart in one
// step shows nothing of itself, and is asked for only where there is no other way;
// the error is ErrUnproven then.
func (b *board) Cycle(ctx context.Context, grace time.Duration) error {
	return b.with(ctx, "cannot turn the machine off and on", func(s *session) error {
		system, err := s.patiently(ctx)
		if err != nil {
			return err
		}
		offered, err := s.offered(system)
		if err != nil {
			return err
		}
		if _, ok := choose(offered, turnsOff...); ok {
			if err := s.turnOff(ctx, grace); err != nil {
				return err
			}
			return s.turnOn(ctx)
		}
		kind, ok := choose(offered, restarts...)
		if !ok {
			return s.unsupported(offered, append(slices.Clone(turnsOff), restarts...))
		}
		state, err := s.state(ctx)
		if err != nil {
			return err
		}
		if state != On {
			return s.turnOn(ctx)
		}
		if err := s.reset(system, kind); err != nil {
			return err
		}
		return ErrUnproven
	})
}

// What to ask for, the best first (ComputerSystem.Reset, Redfish schema Resource,
// ResetType). PushPowerButton is not among them: asked twice, it does the opposite.
var (
	turnsOn  = []redfish.ResetType{redfish.OnResetType, redfish.ForceOnResetType}
	turnsOff = []redfish.ResetType{redfish.ForceOffResetType}
	asksOff  = []redfish.ResetType{redfish.GracefulShutdownResetType}
	restarts = []redfish.ResetType{redfish.ForceRestartResetType, redfish.PowerCycleResetType}
)

// choose is the first of the wanted types that is offered. A controller that offers
// no list is asked for the first.
func choose(offered []redfish.ResetType, wanted ...redfish.ResetType) (redfish.ResetType, bool) {
	if len(offered) == 0 {
		return wanted[0], true
	}
	for _, w := range wanted {
		if slices.Contains(offered, w) {
			return w, true
		}
	}
	return "", false
}

func (s *session) unsupported(offered, wanted []redfish.ResetType) error {
	return s.fault(v1alpha1.ReasonPowerUnsupported, "cannot change the machine's power", "turn it on or off yourself",
		fmt.Errorf("the controller offers the reset types %v, and none of %v", offered, wanted))
}

func (s *session) state(context.Context) (State, error) {
	system, err := s.system()
	if err != nil {
		return Unknown, err
	}
	switch system.PowerState {
	case redfish.OnPowerState:
		return On, nil
	case redfish.OffPowerState:
		return Off, nil
	}
	return Unknown, nil
}

func (s *session) turnOn(ctx context.Context) error {
	return s.timing.reach(ctx, journey{to: On, within: s.timing.Within, look: s.state, tell: func(context.Context) error {
		return s.resetTo(turnsOn)
	}})
}

func (s *session) turnOff(ctx context.Context, grace time.Duration) error {
	if grace > 0 {
		err := s.timing.reach(ctx, journey{to: Off, within: grace, look: s.state, once: true, tell: func(context.Context) error {
			return s.resetTo(asksOff)
		}})
		var f *Fault
		cannot := errors.As(err, &f) && f.Reason == v1alpha1.ReasonPowerUnsupported
		if err == nil || final(err) && !cannot || ctx.Err() != nil {
			return err
		}
	}
	return s.timing.reach(ctx, journey{to: Off, within: s.timing.Within, look: s.state, tell: func(context.Context) error {
		return s.resetTo(turnsOff)
	}})
}

// resetTo asks for the first of the wanted types that the controller offers.
func (s *session) resetTo(wanted []redfish.ResetType) error {
	system, err := s.system()
	if err != nil {
		return err
	}
	offered, err := s.offered(system)
	if err != nil {
		return err
	}
	kind, ok := choose(offered, wanted...)
	if !ok {
		return s.unsupported(offered, wanted)
	}
	return s.reset(system, kind)
}

// offered are the reset types that the controller offers; none: it has no list.
// They stand in the system itself, or in a resource that it links to (DSP0266,
// "Action info annotation").
func (s *session) offered(system *redfish.ComputerSystem) ([]redfish.ResetType, error) {
	if len(system.SupportedResetTypes) > 0 {
		return system.SupportedResetTypes, nil
	}
	link := resetInfo(system.RawData)
	if link == "" {
		return nil, nil
	}
	resp, err := s.client.Get(link)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var info struct {
		Parameters []struct {
			Name            string
			AllowableValues []redfish.ResetType
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", link, err)
	}
	for _, p := range info.Parameters {
		if p.Name == "ResetType" {
			return p.AllowableValues, nil
		}
	}
	return nil, nil
}

// resetInfo is where a system says that its reset types are listed.
func resetInfo(raw []byte) string {
	var system struct {
		Actions struct {
			Reset struct {
				Info string `json:"@Redfish.ActionInfo"`
			} `json:"#ComputerSystem.Reset"`
		}
	}
	if json.Unmarshal(raw, &system) != nil {
		return ""
	}
	return system.Actions.Reset.Info
}

func (s *session) reset(system *redfish.ComputerSystem, kind redfish.ResetType) error {
	// An action changes no resource that could have changed meanwhile.
	system.DisableEtagMatch(true)
	// gofish's own check knows only of the list in the system.
	system.SupportedResetTypes = nil
	err := system.Reset(kind)
	if statusOf(err) == http.StatusForbidden {
		return s.forbidden("cannot change the machine's power", err)
	}
	if err != nil {
		return fmt.Errorf("it refuses the reset %s: %w", kind, err)
	}
	return nil
}

// BootFromNetwork implements NetworkBooter.
func (b *board) BootFromNetwork(ctx context.Context) error {
	return b.with(ctx, bootDoing, func(s *session) error { return s.bootFromNetwork(ctx) })
}

const bootDoing = "cannot have the machine boot from the network once"

func (s *session) bootFromNetwork(ctx context.Context) error {
	system, err := s.patiently(ctx)
	if err != nil {
		return err
	}
	boot, err := bootOf(system)
	if err != nil {
		return s.fault(v1alpha1.ReasonPowerUnsupported, bootDoing,
			"have its firmware boot from the network first, and use spec.power.webhook or wakeOnLAN", err)
	}
	var problems []error
	for _, way := range waysOf(system, boot) {
		err := s.override(ctx, way)
		if err == nil || final(err) || ctx.Err() != nil {
			return err
		}
		problems = append(problems, fmt.Errorf("%s: %w", way, err))
	}
	return errors.Join(problems...)
}

// patiently reads the system, again while the controller does not answer.
func (s *session) patiently(ctx context.Context) (*redfish.ComputerSystem, error) {
	began := s.timing.Now()
	for {
		system, err := s.system()
		if err == nil || final(err) || s.timing.Now().Sub(began) >= s.timing.Within {
			return system, err
		}
		if e := s.timing.Sleep(ctx, s.timing.Poll); e != nil {
			return nil, errors.Join(e, err)
		}
	}
}

// override sets the boot override in one way, and proves that it stands.
func (s *session) override(ctx context.Context, w way) error {
	began := s.timing.Now()
	for told := false; ; {
		resource, err := s.resource(w.uri)
		var boot bootSettings
		if err == nil {
			boot, err = bootOf(resource)
		}
		switch {
		case final(err):
			return err
		case err == nil && boot.Target == string(redfish.PxeBootSourceOverrideTarget) && boot.Enabled == string(redfish.OnceBootSourceOverrideEnabled):
			return nil
		case err == nil && !told:
			if err = s.patch(w.uri, resource, w.payload()); err == nil {
				told = true
			}
			if statusOf(err) == http.StatusForbidden {
				return s.forbidden("cannot set the boot device", err)
			}
			if isRefusal(err) {
				return err
			}
		case err == nil:
			err = fmt.Errorf("%w: it accepted the boot override and shows target %q, enabled %q", ErrUnproven, boot.Target, boot.Enabled)
		}
		if s.timing.Now().Sub(began) >= s.timing.Within/2 {
			return err
		}
		if e := s.timing.Sleep(ctx, s.timing.Poll); e != nil {
			return errors.Join(e, err)
		}
	}
}
