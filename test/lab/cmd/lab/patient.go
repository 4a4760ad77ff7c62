//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// patient is a machine that is wiped, for the cluster to heal.
type patient struct {
	machineState
	// board: it is turned on by its board, and else by magic packets.
	board bool
	// crowded: the operator and a PXE pod are brought onto it before.
	crowded bool
}

// choose picks whom to wipe: a worker, which is woken, and the machine that was seeded
// first, with its board. Of fewer than three servers none is ever repaired without a
// person (rule 6); then it is another worker, and note says so.
func choose(machines []machineState) (patients []patient, note string, err error) {
	var servers, workers []machineState
	for _, m := range machines {
		if m.Role == "Worker" {
			workers = append(workers, m)
		} else {
			servers = append(servers, m)
		}
	}
	const more = "`lab down`, then `lab up --servers 3 --machines 4`"
	switch {
	case len(servers) >= 3 && len(workers) >= 1:
		return []patient{{machineState: workers[0]}, {machineState: servers[0], board: true, crowded: true}}, "", nil
	case len(workers) >= 2:
		note = fmt.Sprintf("%s, which was seeded first, is left alone: of %d servers none is repaired without a person (rule 6). For it: %s.", servers[0].Name, len(servers), more)
		return []patient{{machineState: workers[0]}, {machineState: workers[1], board: true}}, note, nil
	}
	return nil, "", fmt.Errorf("a lab of %d servers and %d workers has too few machines: %s", len(servers), len(workers), more)
}

// wiped is what is remembered of a machine that was wiped.
type wiped struct {
	// At is when, and UID that of the core Node that it was until then.
	At  time.Time `json:"at"`
	UID types.UID `json:"uid"`
}

// The stages of healing, each of which is over when the next one begins.
const (
	unseen = iota
	seenSick
	firstStep
	toInstall
	installs
	isBack
	stageCount
)

// stageNames say what each stage is reached by.
var stageNames = [stageCount]string{
	seenSick:  "not Ready",
	firstStep: "first step of the repair",
	toInstall: "told to be installed",
	installs:  "installer runs",
	isBack:    "a Ready member again",
}

// stage is how far the healing of a machine has come, by what the cluster shows: its
// Node and its core Node; nil: it is gone.
func (w wiped) stage(n *v1alpha1.Node, core *corev1.Node) int {
	if n == nil {
		return unseen
	}
	repair := v1alpha1.RepairStatus{}
	if n.Status.Repair != nil {
		repair = *n.Status.Repair
	}
	healed := false
	for _, r := range n.Status.Repairs {
		healed = healed || w.concerns(r.At) && r.Action == v1alpha1.RepairReinstall && r.Result == v1alpha1.ResultHealed
	}
	former := core != nil && core.UID == w.UID
	switch claim := n.Status.Claim; {
	case healed && core != nil && !former && isReady(core) && repair.Action == "" && meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionReady):
		return isBack
	case healed || core != nil && !former,
		claim != nil && w.concerns(claim.Opened) && (claim.State == "Consumed" || claim.State == "Installed" || claim.State == "Exchanged"):
		return installs
	case repair.Action == v1alpha1.RepairReinstall && repair.Acted != nil:
		return toInstall
	case repair.Action != "", len(w.records(n)) > 0:
		return firstStep
	case core == nil || !isReady(core):
		return seenSick
	}
	return unseen
}

// clockTolerance is how far the clocks of emulated machines may be behind ours.
const clockTolerance = time.Minute

// concerns says whether a time of the API is of after the wipe.
func (w wiped) concerns(at metav1.Time) bool { return at.After(w.At.Add(-clockTolerance)) }

// records are the steps that are over.
func (w wiped) records(n *v1alpha1.Node) []v1alpha1.RepairRecord {
	var all []v1alpha1.RepairRecord
	for _, r := range n.Status.Repairs {
		if w.concerns(r.At) {
			all = append(all, r)
		}
	}
	return all
}

// givenUp is why the cluster will not heal the machine without a person; nil: it may.
func givenUp(n *v1alpha1.Node) error {
	switch {
	case n == nil:
		return nil
	case n.Status.Repair != nil && n.Status.Repair.Quarantined != nil:
		return fmt.Errorf("healing gave %s up: %s", n.Name, n.Status.Repair.Message)
	case n.Status.Phase == v1alpha1.PhaseFailed:
		return fmt.Errorf("the installations of %s failed", n.Name)
	}
	return nil
}

// chart is how a patient does, as facts: it itself, and what is done about it.
func (w wiped) chart(name string, n *v1alpha1.Node, core *corev1.Node) []fact {
	check := "kubectl describe rnode " + name
	facts := []fact{{name: name, line: "is not declared", check: check}}
	if n == nil {
		return facts
	}
	member := "no member"
	if core != nil {
		member = "a member that is not Ready"
		if isReady(core) {
			member = "a Ready member"
		}
	}
	facts[0].line, facts[0].ready = fmt.Sprintf("%s, %s", n.Status.Phase, member), w.stage(n, core) == isBack
	for _, kind := range []string{v1alpha1.ConditionHealthy, v1alpha1.ConditionRepair, v1alpha1.ConditionRemoval, v1alpha1.ConditionAdmitted, v1alpha1.ConditionPower} {
		f := fact{name: "  " + kind, line: "-", ready: true, check: check}
		if c := meta.FindStatusCondition(n.Status.Conditions, kind); c != nil {
			f.line = fmt.Sprintf("%s: %s", c.Reason, c.Message)
		}
		facts = append(facts, f)
	}
	return facts
}

// timeline is when each stage was reached; zero: it was not yet.
type timeline [stageCount]time.Time

// saw takes how far it has come. What was passed between two looks counts as reached
// now.
func (t *timeline) saw(stage int, now time.Time) {
	for s := 1; s <= stage; s++ {
		if t[s].IsZero() {
			t[s] = now
		}
	}
}

// lines say how long each stage took, since the wipe.
func (t *timeline) lines(since time.Time) []string {
	var lines []string
	last := since
	for s := 1; s < stageCount; s++ {
		if !t[s].IsZero() {
			lines = append(lines, fmt.Sprintf("    %-26s %s", stageNames[s], t[s].Sub(last).Round(time.Second)))
			last = t[s]
		}
	}
	return append(lines, fmt.Sprintf("    %-26s %s", "all of it", last.Sub(since).Round(time.Second)))
}

// checkPower holds what a machine's board was told against how it was to be turned on.
func (p patient) checkPower(resets []string) error {
	told := 0
	for _, r := range resets {
		if strings.HasPrefix(r, p.Name+" ") {
			told++
		}
	}
	switch {
	case p.board && told == 0:
		return fmt.Errorf("%s came back, and its board was never told to turn it on", p.Name)
	case !p.board && told > 0:
		return errors.New(p.Name + " is woken by Wake-on-LAN, and its board was used")
	}
	return nil
}

func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
