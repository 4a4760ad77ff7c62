//go:build linux

package program_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/test/program"
)

// childVariable has this test's binary start a program and wait to be killed.
const childVariable = "RHIZOME_TEST_PROGRAM_CHILD"

func TestAProgramEndsWithTheProcessThatStartedIt(t *testing.T) {
	if file := os.Getenv(childVariable); file != "" {
		p := program.Start(t, "sleep", file+".log", exec.Command("sleep", "3600"))
		if err := os.WriteFile(file+".new", fmt.Append(nil, p.PID()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		return
	}
	file := filepath.Join(t.TempDir(), "pid")
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	child.Env = append(os.Environ(), childVariable+"="+file)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	await(t, "the child's program", func() bool {
		content, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(content), &pid)
		return err == nil
	})
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the program does not run: %v", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	await(t, "the program's end", func() bool { return gone(pid) })
}

// gone says whether a process is none any more, or a zombie that nobody waits for.
func gone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || strings.Contains(string(status), ") Z ")
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}

func TestKillTakesAProgramsOwnProgramsAlong(t *testing.T) {
	log := filepath.Join(t.TempDir(), "sh.log")
	p := program.Start(t, "sh", log, exec.Command("sh", "-c", "sleep 3600 & echo $!; wait"))
	var pid int
	await(t, "the program's program", func() bool {
		_, err := fmt.Sscan(p.Tail(1), &pid)
		return err == nil
	})
	p.Kill()
	if p.Running() {
		t.Error("a killed program runs")
	}
	await(t, "the end of the program's program", func() bool { return gone(pid) })
}

func TestWaitEndsWhenTheProgramDoes(t *testing.T) {
	p := program.Start(t, "false", filepath.Join(t.TempDir(), "false.log"), exec.Command("false"))
	err := p.Wait(t.Context(), func(context.Context) error { return errors.New("nothing answers") })
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("waiting for a program that fails: %v", err)
	}
}
