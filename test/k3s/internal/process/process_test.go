package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1200 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func TestAVitalChildThatExitsFailsTheGroup(t *testing.T) {
	g := &Group{Log: &safe{}}
	defer g.Stop()
	g.Start(Child{Name: "short", Path: "/bin/sh", Args: []string{"-c", "exit 3"}, Vital: true})
	if err := <-g.Failed(); err == nil || !strings.Contains(err.Error(), "short: exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestOtherChildrenAreStartedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "starts")
	g := &Group{Log: &safe{}}
	defer g.Stop()
	g.Start(Child{Name: "again", Path: "/bin/sh", Args: []string{"-c", "echo x >> " + file}})
	until(t, "a second start", func() bool {
		b, _ := os.ReadFile(file)
		return strings.Count(string(b), "x") > 1
	})
}

func TestLinesCarryTheChildsName(t *testing.T) {
	log := &safe{}
	g := &Group{Log: log}
	var seen []string
	g.Start(Child{Name: "talker", Path: "/bin/sh", Args: []string{"-c", "echo one; printf t; echo wo; exec sleep 1000"}, Line: func(s string) { seen = append(seen, s) }})
	until(t, "the lines", func() bool { return log.String() == "talker: one\ntalker: two\n" })
	g.Stop()
	if strings.Join(seen, ",") != "one,two" {
		t.Errorf("seen: %q", seen)
	}
}

func TestStopEndsChildrenAlsoThoseThatIgnoreIt(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	log := &safe{}
	g := &Group{Log: log}
	g.Start(Child{Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; echo $$; while :; do sleep 0.1; done"}, Grace: 100 * time.Millisecond, PIDFile: pidFile})
	until(t, "the child to run", func() bool { return strings.Contains(log.String(), "stubborn: ") })
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "stubborn: "+string(b)+"\n") {
		t.Errorf("the PID file says %s, the child %s", b, log.String())
	}
	g.Stop()
	if _, err := os.Stat("/proc/" + string(b)); err == nil {
		t.Error("it still runs")
	}
	g.Start(Child{Name: "late", Path: "/bin/sh", Args: []string{"-c", "echo late"}})
	if strings.Contains(log.String(), "late") {
		t.Error("a child was started after Stop")
	}
}
