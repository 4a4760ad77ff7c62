package healing

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// live leads a member through time: what is decided is recorded, acts are done at
// once, and nothing helps. It returns what was done and when, until the member is
// given up or the time is over.
func live(t *testing.T, m *member, f *facts, lasts time.Duration) []string {
	t.Helper()
	var done []string
	start := f.now
	for f.now.Sub(start) < lasts {
		v := decide(m, f)
		if v.move == act {
			m.repair.Acted = ptr(ago(-f.now.Sub(noon)))
			if v.action == v1alpha1.RepairReinstall {
				m.repair.Reinstall = "1"
			}
			done = append(done, f.now.Sub(start).String()+" "+string(v.action))
		}
		m.repair, m.repairs = recorded(m, v, f.now)
		m.untouched = v.move == begin || m.untouched && v.move != act
		if v.move == giveUp {
			return append(done, f.now.Sub(start).String()+" GivenUp")
		}
		f.now = f.now.Add(15 * time.Second)
		m.reach = []v1alpha1.Reach{{From: "w2", At: ago(-f.now.Sub(noon)), Answer: v1alpha1.AnswerNothing}}
	}
	return done
}

func TestTheEscalation(t *testing.T) {
	tests := []struct {
		reason string
		change func(*member, *facts)
		want   []string
	}{
		{"a silent worker that can only be woken", nil,
			[]string{"15s Wake", "11m30s Wake", "23m45s Reinstall", "1h27m45s GivenUp"}},
		{"a silent worker with a board", func(m *member, _ *facts) { m.board = true },
			[]string{"15s PowerCycle", "11m30s PowerCycle", "23m45s Reinstall", "1h27m45s GivenUp"}},
		{"a worker that says itself that it is not Ready", func(m *member, _ *facts) { m.sick, m.speaks, m.board = v1alpha1.ReasonSickNotReady, true, true },
			[]string{"15s Reboot", "11m30s PowerCycle", "23m45s PowerCycle", "38m0s Reinstall", "1h46m0s GivenUp"}},
		{"of one that speaks and can only be woken, waking is left out", func(m *member, _ *facts) { m.sick, m.speaks = v1alpha1.ReasonSickNotReady, true },
			[]string{"15s Reboot", "11m30s Reinstall", "1h13m30s GivenUp"}},
		{"steps that are turned off are left out", func(_ *member, f *facts) { f.settings.power.tries, f.settings.reinstall.tries = 1, 0 },
			[]string{"15s Wake", "11m15s GivenUp"}},
		{"a disk that is to be kept ends it before the reinstallation", func(m *member, _ *facts) { m.storage.verdict = storageKept },
			[]string{"15s Wake", "11m30s Wake"}},
		{"no step at all is permitted", func(_ *member, f *facts) { f.settings.power.tries, f.settings.reinstall.tries = 0, 0 }, nil},
		{"a dry run does nothing", func(m *member, _ *facts) { m.mode = v1alpha1.HealingDryRun }, nil},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			m, f := sickWorker()
			if tc.change != nil {
				tc.change(m, f)
			}
			if diff := cmp.Diff(tc.want, live(t, m, f, 8*time.Hour)); diff != "" {
				t.Errorf("done (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAServerIsRepairedLikeAWorker(t *testing.T) {
	m, f := sickServer()
	want := []string{"15s Wake", "11m30s Wake", "23m45s Reinstall", "1h27m45s GivenUp"}
	if diff := cmp.Diff(want, live(t, m, f, 8*time.Hour)); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}

func TestAReinstallationThatStandsStillIsGivenUp(t *testing.T) {
	m, f := sickWorker()
	m.removing = true
	tried(m, time.Hour, v1alpha1.RepairWake, v1alpha1.RepairWake, v1alpha1.RepairReinstall)
	if v := decide(m, f); v.move != giveUp {
		t.Errorf("%s: %s, want that it is given up", v.move, v.message)
	}
}

func TestAQuarantineLastsUntilAPersonClearsIt(t *testing.T) {
	m, f := sickWorker()
	m.retry = "old"
	live(t, m, f, 8*time.Hour)
	if m.repair.Quarantined == nil {
		t.Fatal("it was not given up")
	}
	f.now = f.now.Add(7 * day)
	m.reach[0].At = ago(-f.now.Sub(noon))
	if v := decide(m, f); v.move != refuse || v.refusal.name != "Quarantined" {
		t.Fatalf("a week later: %s %s", v.move, v.message)
	}
	m.retry = "new"
	v := decide(m, f)
	if v.move != clear {
		t.Fatalf("cleared: %s %s", v.move, v.message)
	}
	m.repair, m.repairs = recorded(m, v, f.now)
	if v := decide(m, f); v.move != begin || v.try != 1 {
		t.Errorf("after it was cleared: %s %s (try %d)", v.move, v.message, v.try)
	}
}

// begun is a worker for which an action was written down a while ago.
func begun(a v1alpha1.RepairAction, intended time.Duration) (*member, *facts) {
	m, f := sickWorker()
	m.repair = v1alpha1.RepairStatus{Action: a, Try: 1, Rule: m.sick, Intended: ptr(ago(intended)), Message: "the board does not answer"}
	m.untouched = true
	return m, f
}

func TestAnActionThatWasBegun(t *testing.T) {
	const (
		cycle     = v1alpha1.RepairPowerCycle
		reinstall = v1alpha1.RepairReinstall
	)
	well := func(m *member) { m.sick, m.ready, m.speaks = "", true, true }
	tests := []struct {
		reason   string
		action   v1alpha1.RepairAction
		intended time.Duration
		acted    time.Duration // 0: not yet
		change   func(*member, *facts)
		want     move
		result   v1alpha1.RepairResult
	}{
		{"it waits so that others are seen who begin something", cycle, 9 * time.Second, 0, nil, wait, ""},
		{"nobody did: it is done", cycle, 10 * time.Second, 0, nil, act, ""},
		{"the member is well again before", cycle, 10 * time.Second, 0, func(m *member, _ *facts) { well(m) }, withdraw, ""},
		{"a former operator wrote it down, and the member is well", cycle, time.Minute, 0, func(m *member, _ *facts) { well(m); m.untouched = false }, finish, v1alpha1.ResultHealed},
		{"a former operator wrote it down, and ours has not seen enough", cycle, time.Minute, 0, func(m *member, _ *facts) { m.since, m.untouched = noon, false }, finish, v1alpha1.ResultFailed},
		{"a former operator wrote it down, and all permits", cycle, time.Minute, 0, func(m *member, _ *facts) { m.untouched = false }, act, ""},
		{"it could not be done in time", cycle, 10 * time.Minute, 0, nil, finish, v1alpha1.ResultFailed},
		{"a machine that we turned off is turned on, whatever is paused", cycle, time.Minute, 0, func(m *member, f *facts) {
			m.repair.Off, f.paused = &v1alpha1.OffProof{By: v1alpha1.OffByBoard, At: ago(time.Second)}, "paused"
		}, act, ""},
		{"one that took its time to turn off is turned on all the same", cycle, 11 * time.Minute, 0, func(m *member, _ *facts) {
			m.repair.Off = &v1alpha1.OffProof{By: v1alpha1.OffByBoard, At: ago(9 * time.Minute)}
		}, act, ""},
		{"one that a former operator turned off hours ago is turned on", cycle, 3 * time.Hour, 0, func(m *member, _ *facts) {
			m.repair.Off = &v1alpha1.OffProof{By: v1alpha1.OffByBoard, At: ago(3 * time.Hour)}
			m.since, m.untouched = noon.Add(-9*time.Minute), false
		}, act, ""},
		{"it was turned off, and could not be turned on in time", cycle, 20 * time.Minute, 0, func(m *member, _ *facts) {
			m.repair.Off = &v1alpha1.OffProof{By: v1alpha1.OffByBoard, At: ago(10 * time.Minute)}
		}, finish, v1alpha1.ResultFailed},
		{"it is awaited", cycle, 10 * time.Minute, 10*time.Minute - time.Second, nil, wait, ""},
		{"it is awaited whatever is paused", cycle, 10 * time.Minute, time.Minute, func(_ *member, f *facts) { f.paused = "paused" }, wait, ""},
		{"it did not help in time", cycle, 20 * time.Minute, 10 * time.Minute, nil, finish, v1alpha1.ResultTimedOut},
		{"it helped", cycle, 10 * time.Minute, time.Minute, func(m *member, _ *facts) { well(m) }, finish, v1alpha1.ResultHealed},
		{"a member that is Ready and does not vote is not healed", cycle, 10 * time.Minute, time.Minute, func(m *member, _ *facts) { well(m); m.sick = v1alpha1.ReasonSickVoteLost }, wait, ""},
		{"one whose core Node is gone is not healed", reinstall, 10 * time.Minute, time.Minute, func(m *member, _ *facts) { m.sick, m.core = "", false }, wait, ""},
		{"an installation may take its time", reinstall, 5 * time.Hour, 5 * time.Hour, func(m *member, _ *facts) { m.began = true }, wait, ""},
		{"a machine that does not boot the installer", reinstall, time.Hour, time.Hour, nil, finish, v1alpha1.ResultTimedOut},
		{"its installations failed", reinstall, time.Hour, time.Minute, func(m *member, _ *facts) { m.failed = true }, finish, v1alpha1.ResultFailed},
		{"it was installed", reinstall, time.Hour, time.Minute, func(m *member, _ *facts) { well(m) }, finish, v1alpha1.ResultHealed},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			m, f := begun(tc.action, tc.intended)
			m.board = true
			if tc.acted != 0 {
				m.repair.Acted = ptr(ago(tc.acted))
			}
			if tc.change != nil {
				tc.change(m, f)
			}
			v := decide(m, f)
			if v.move != tc.want || v.result != tc.result {
				t.Errorf("verdict %s %s (%s), want %s %s", v.move, v.result, v.message, tc.want, tc.result)
			}
		})
	}
}

func TestTheHistoryIsBounded(t *testing.T) {
	m, _ := sickWorker()
	for i := range 3 * v1alpha1.MaxRepairs {
		m.repair = v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Intended: ptr(ago(0))}
		at := noon.Add(time.Duration(i) * time.Hour)
		m.repair, m.repairs = recorded(m, verdict{move: finish, action: v1alpha1.RepairReinstall, result: v1alpha1.ResultFailed, message: "why"}, at)
		if got := m.repairs[len(m.repairs)-1]; !got.Ended.Time.Equal(at) || got.Disk == "" || got.Rule == "" {
			t.Fatalf("the last record is %+v", got)
		}
	}
	if len(m.repairs) != v1alpha1.MaxRepairs {
		t.Errorf("%d records, want %d", len(m.repairs), v1alpha1.MaxRepairs)
	}
}

// TestTriesOfADayFitTheHistory: what is counted is never forgotten too early.
func TestTriesOfADayFitTheHistory(t *testing.T) {
	const mostTries, steps, quarantine = 4, 3, 1
	if mostTries*steps+quarantine > v1alpha1.MaxRepairs {
		t.Error("a day's actions do not fit status.repairs")
	}
}

func TestTheClockIsOurOwn(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	sick := func(uid string) []seen { return []seen{{name: "w1", uid: uid, sick: true}} }
	tests := []struct {
		reason string
		looks  func(*watch)
		want   time.Time
	}{
		{"seen sick without interruption", func(w *watch) { w.look(at(0), sick("a")); w.look(at(time.Minute), sick("a")) }, at(0)},
		{"well in between", func(w *watch) {
			w.look(at(0), sick("a"))
			w.look(at(time.Minute), []seen{{name: "w1", uid: "a"}})
			w.look(at(2*time.Minute), sick("a"))
		}, at(2 * time.Minute)},
		{"another core Node of the name", func(w *watch) { w.look(at(0), sick("a")); w.look(at(time.Minute), sick("b")) }, at(time.Minute)},
		{"nobody looked for too long", func(w *watch) { w.look(at(0), sick("a")); w.look(at(2*time.Minute+time.Second), sick("a")) }, at(2*time.Minute + time.Second)},
		{"the clock went back", func(w *watch) { w.look(at(0), sick("a")); w.look(at(-time.Hour), sick("a")) }, at(-time.Hour)},
		{"another operator", func(w *watch) { w.look(at(0), sick("a")); *w = watch{gap: w.gap}; w.look(at(time.Minute), sick("a")) }, at(time.Minute)},
		{"declared no more", func(w *watch) { w.look(at(0), sick("a")); w.look(at(time.Minute), nil) }, time.Time{}},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			w := &watch{gap: 2 * time.Minute}
			tc.looks(w)
			if got := w.since("w1"); !got.Equal(tc.want) {
				t.Errorf("sick since %v, want %v", got, tc.want)
			}
		})
	}
}

func TestTheTaintNeedsAProofThatTheMachineWasOff(t *testing.T) {
	off := &v1alpha1.OffProof{By: v1alpha1.OffByBoard, At: ago(time.Minute)}
	tests := []struct {
		reason string
		change func(*member, *facts)
		want   fencing
	}{
		{"silence is no proof", func(*member, *facts) {}, fencing{}},
		{"a wake is no proof", func(m *member, _ *facts) {
			m.repair = v1alpha1.RepairStatus{Action: v1alpha1.RepairWake, Acted: ptr(ago(time.Hour))}
		}, fencing{}},
		{"the board said so", func(m *member, _ *facts) { m.repair.Off = off }, fencing{taint: true}},
		{"it is tainted already", func(m *member, _ *facts) { m.repair.Off, m.fenced = off, true }, fencing{}},
		{"a person says so: that is written down first", func(m *member, _ *facts) { m.poweredOff = "now" }, fencing{proof: &v1alpha1.OffProof{By: v1alpha1.OffByPerson}}},
		{"what a person said of an earlier failure", func(m *member, _ *facts) {
			m.poweredOff, m.repair.Honoured = "then", map[string]string{honouredPoweredOff: "then"}
		}, fencing{}},
		{"it is in our installer", func(m *member, _ *facts) { m.installedAt = noon.Add(-time.Minute) }, fencing{proof: &v1alpha1.OffProof{By: v1alpha1.OffByInstaller}}},
		{"it was in our installer before it fell silent", func(m *member, _ *facts) { m.installedAt = noon.Add(-2 * time.Hour) }, fencing{}},
		{"its kubelet speaks", func(m *member, _ *facts) { m.sick, m.repair.Off = v1alpha1.ReasonSickNotReady, off }, fencing{}},
		{"the Node is paused", func(m *member, _ *facts) { m.repair.Off, m.paused = off, "paused" }, fencing{}},
		{"the Cluster is paused", func(m *member, f *facts) { m.repair.Off, f.paused = off, "paused" }, fencing{}},
		{"a dry run", func(m *member, _ *facts) { m.repair.Off, m.mode = off, v1alpha1.HealingDryRun }, fencing{}},
		{"it is Ready again", func(m *member, _ *facts) { m.ready, m.sick, m.fenced, m.repair.Off = true, "", true, off }, fencing{untaint: true}},
		{"it is Ready again, and not by us", func(m *member, _ *facts) { m.ready, m.sick = true, "" }, fencing{}},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			m, f := sickWorker()
			tc.change(m, f)
			if diff := cmp.Diff(tc.want, fence(m, f), cmp.AllowUnexported(fencing{})); diff != "" {
				t.Errorf("fencing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhyPodsStayIsSaid(t *testing.T) {
	off := &v1alpha1.OffProof{By: v1alpha1.OffByBoard, At: ago(time.Minute)}
	tests := []struct {
		reason string
		change func(*member, *facts)
		want   string // part of it; empty: nothing is said
	}{
		{"nothing proves that it is off", func(*member, *facts) {}, v1alpha1.AnnotationPoweredOff},
		{"a dry run", func(m *member, _ *facts) { m.mode, m.repair.Off = v1alpha1.HealingDryRun, off }, "mode DryRun"},
		{"the Node is paused", func(m *member, _ *facts) { m.paused, m.poweredOff = "paused", "now" }, "paused"},
		{"there is a proof, and a pause", func(m *member, f *facts) { f.paused, m.repair.Off = "paused", off }, "paused"},
		{"it is about to be tainted", func(m *member, _ *facts) { m.repair.Off = off }, ""},
		{"a person says just now that it is off", func(m *member, _ *facts) { m.poweredOff = "now" }, ""},
		{"it is tainted", func(m *member, _ *facts) { m.repair.Off, m.fenced = off, true }, ""},
		{"its kubelet speaks", func(m *member, _ *facts) { m.sick, m.speaks = v1alpha1.ReasonSickNotReady, true }, ""},
		{"it is Ready", func(m *member, _ *facts) { m.sick, m.ready = "", true }, ""},
		{"its core Node is gone", func(m *member, _ *facts) { m.sick, m.core = v1alpha1.ReasonSickMissing, false }, ""},
		{"it is being removed", func(m *member, _ *facts) { m.leaving = true }, ""},
	}
	for _, tc := range tests {
		m, f := sickWorker()
		tc.change(m, f)
		got := unfenced(m, f)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) || got != "" && !strings.HasPrefix(got, "rule 9: ") {
			t.Errorf("%s: %q, want %q", tc.reason, got, tc.want)
		}
	}
}

func TestNoProofOutlivesItsFailure(t *testing.T) {
	m, _ := sickWorker()
	m.repair.Off, m.poweredOff = &v1alpha1.OffProof{By: v1alpha1.OffByPerson, At: ago(time.Hour)}, "then"
	m.sick, m.ready = "", true
	r, _ := recorded(m, verdict{move: rest}, noon)
	if r.Off != nil || r.Honoured[honouredPoweredOff] != "then" {
		t.Errorf("of a member that is well again: %+v", r)
	}
}

func TestMaintenanceWindows(t *testing.T) {
	berlin := v1alpha1.MaintenanceWindow{Days: []v1alpha1.Weekday{"Saturday"}, From: "22:00", To: "05:30", TimeZone: "Europe/Berlin"}
	workdays := v1alpha1.MaintenanceWindow{Days: []v1alpha1.Weekday{"Monday", "Wednesday"}, From: "08:00", To: "17:00", TimeZone: "UTC"}
	wholeSunday := v1alpha1.MaintenanceWindow{Days: []v1alpha1.Weekday{"Sunday"}, From: "00:00", To: "24:00", TimeZone: "UTC"}
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	tests := []struct {
		reason  string
		windows []v1alpha1.MaintenanceWindow
		now     string
		want    bool
	}{
		{"no windows", nil, "2026-03-04T12:00:00Z", true},
		{"within", []v1alpha1.MaintenanceWindow{workdays}, "2026-03-04T12:00:00Z", true},
		{"on another day", []v1alpha1.MaintenanceWindow{workdays}, "2026-03-05T12:00:00Z", false},
		{"its first moment", []v1alpha1.MaintenanceWindow{workdays}, "2026-03-04T08:00:00Z", true},
		{"its end", []v1alpha1.MaintenanceWindow{workdays}, "2026-03-04T17:00:00Z", false},
		{"one of two", []v1alpha1.MaintenanceWindow{berlin, workdays}, "2026-03-04T12:00:00Z", true},
		{"over midnight, in the time zone: its beginning in winter", []v1alpha1.MaintenanceWindow{berlin}, "2026-03-07T21:00:00Z", true},
		{"a moment before", []v1alpha1.MaintenanceWindow{berlin}, "2026-03-07T20:59:59Z", false},
		{"its beginning in summer", []v1alpha1.MaintenanceWindow{berlin}, "2026-07-04T20:00:00Z", true},
		{"the next morning", []v1alpha1.MaintenanceWindow{berlin}, "2026-03-08T04:29:00Z", true},
		{"the next morning, later", []v1alpha1.MaintenanceWindow{berlin}, "2026-03-08T04:30:00Z", false},
		{"the morning of its day belongs to the day before", []v1alpha1.MaintenanceWindow{berlin}, "2026-03-07T04:00:00Z", false},
		{"a whole day, to its last minute", []v1alpha1.MaintenanceWindow{wholeSunday}, "2026-03-08T23:59:59Z", true},
		{"and no longer", []v1alpha1.MaintenanceWindow{wholeSunday}, "2026-03-09T00:00:00Z", false},
		{"every day", []v1alpha1.MaintenanceWindow{{From: "11:00", To: "13:00"}}, "2026-03-04T12:00:00Z", true},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			got, err := within(tc.windows, at(tc.now))
			if err != nil || got != tc.want {
				t.Errorf("within = %v, %v, want %v", got, err, tc.want)
			}
		})
	}
	for _, bad := range []v1alpha1.MaintenanceWindow{{TimeZone: "Local"}, {TimeZone: "Nowhere"}, {From: "8:00"}, {From: "25:00"}, {To: "24:01"}, {To: "0x:10"}} {
		if open, err := within([]v1alpha1.MaintenanceWindow{bad, {}}, noon); err == nil || open {
			t.Errorf("%+v: %v, want an error", bad, open)
		}
	}
}
