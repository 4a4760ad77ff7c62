package provision

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

func TestAnInstalledMachineJoins(t *testing.T) {
	j := newJoining(t)
	output, err := j.run()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
	var got []string
	for _, r := range j.requests {
		if !strings.HasPrefix(r, "POST /v1/report") {
			got = append(got, filepath.Base(strings.Fields(r)[1]))
		}
	}
	want := []string{"k3s", "k3s-airgap-images-amd64.tar.zst", "operator.tar", "credentials"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (- want, + got):\n%s", diff)
	}

	asked := len(j.requests)
	if output, err := j.run(); err != nil || len(j.requests) != asked {
		t.Errorf("run again: %v, %d more requests\n%s", err, len(j.requests)-asked, output)
	}
	j.hasJoined()
}

// The machine loses its power at every request in turn, before and after the
// answer, and starts again.
func TestAJoinThatIsKilledAnywhereGoesOn(t *testing.T) {
	j := newJoining(t)
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for n := range len(j.requests) {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("request %d, answered %v", n+1, answered), func(t *testing.T) {
				t.Parallel()
				j := newJoining(t)
				var what string
				j.meddle = func(i int, w http.ResponseWriter, r *http.Request) bool {
					if i != n+1 {
						return false
					}
					what = r.Method + " " + r.URL.Path
					if answered {
						// The machine has the answer, all but the end of it, when it dies.
						kill := j.killer()
						go func() { time.Sleep(20 * time.Millisecond); kill() }()
						return false
					}
					j.killer()()
					return false
				}
				output, err := j.run()
				if err == nil {
					// It was faster than the kill, which is its good right.
					t.Logf("finished before it was killed")
				}
				j.mu.Lock()
				j.meddle = nil
				j.mu.Unlock()
				if output2, err := j.run(); err != nil {
					t.Fatalf("killed at %s, and did not go on: %v\n%s\n%s", what, err, output, output2)
				}
				j.hasJoined()
			})
		}
	}
}

func TestADownloadGoesOnWhereItWasCut(t *testing.T) {
	j := newJoining(t)
	const cut = 100_000
	binary := j.files[k3s.BinaryPath]
	j.meddle = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if filepath.Base(r.URL.Path) != "k3s" {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(binary)))
		_, _ = w.Write(binary[:cut])
		_ = http.NewResponseController(w).Flush()
		part := filepath.Join(j.root, filepath.Dir(k3s.BinaryPath), ".k3s.part")
		for { // until the machine has some of it on its disk; the test's own deadline ends it
			if info, err := os.Stat(part); err == nil && info.Size() > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		j.killer()()
		return true
	}
	if _, err := j.run(); err == nil {
		t.Fatal("it was not killed")
	}
	j.hasNotJoined()
	j.meddle = nil
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
	resumed := false
	for _, r := range j.requests {
		resumed = resumed || strings.Contains(r, "/k3s bytes=") && !strings.Contains(r, "bytes=0-")
	}
	if !resumed {
		t.Errorf("nobody asked for the rest: %q", j.requests)
	}
}

func TestAFileWithTheWrongChecksumIsThrownAway(t *testing.T) {
	j := newJoining(t)
	j.meddle = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if filepath.Base(r.URL.Path) != "k3s" {
			return false
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), len(j.files[k3s.BinaryPath])))
		return true
	}
	output, err := j.run()
	if err == nil || !strings.Contains(output, "k3s has the wrong checksum and was thrown away; trying again") {
		t.Errorf("%v\n%s", err, output)
	}
	j.hasNotJoined()
	if entries, _ := os.ReadDir(filepath.Join(j.root, filepath.Dir(k3s.BinaryPath))); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if c, _ := j.ledger.Get(alphaMAC); c.State(t0) == StateExchanged {
		t.Error("the claim was exchanged although a file is missing")
	}
	j.meddle = nil
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
}

func TestAPartThatIsNotTheFilesBeginningHeals(t *testing.T) {
	j := newJoining(t)
	for name, part := range map[string][]byte{
		"too long":           bytes.Repeat([]byte("x"), len(j.files[k3s.BinaryPath])+1),
		"complete and wrong": bytes.Repeat([]byte("x"), len(j.files[k3s.BinaryPath])),
		"another beginning":  []byte("xxxxx"),
	} {
		j.write(filepath.Dir(k3s.BinaryPath)+"/.k3s.part", part, 0)
		runs := 0
		for _, err := os.Stat(filepath.Join(j.root, k3s.BinaryPath)); err != nil && runs < 3; _, err = os.Stat(filepath.Join(j.root, k3s.BinaryPath)) {
			_, _ = j.run()
			runs++
		}
		got, err := os.ReadFile(filepath.Join(j.root, k3s.BinaryPath))
		if err != nil || !bytes.Equal(got, j.files[k3s.BinaryPath]) {
			t.Errorf("%s: after %d runs: %v, %d bytes", name, runs, err, len(got))
		}
		for _, path := range []string{k3s.BinaryPath, joinedPath} {
			_ = os.Remove(filepath.Join(j.root, path))
		}
	}
}

func TestARefusedClaimNamesItsRuleAndLeavesTheMachineAlone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*joining)
		rule   string
	}{
		"expired":   {func(j *joining) { j.now = t0.Add(DefaultFinish) }, RuleClaimExpired},
		"replaced":  {func(j *joining) { c := j.claim; c.ID = "newer"; _ = j.ledger.Put(t.Context(), c) }, RuleClaimUnknown},
		"elsewhere": {func(j *joining) { c := j.claim; c.Address = stranger; _ = j.ledger.Put(t.Context(), c) }, RuleWrongAddress},
	} {
		j := newJoining(t)
		c.change(j)
		output, err := j.run()
		if err == nil || !strings.Contains(output, c.rule) || !strings.Contains(output, "HTTP status 403") {
			t.Errorf("%s: %v, want %s\n%s", name, err, c.rule, output)
		}
		j.hasNotJoined()
	}
}

func TestCredentialsComeOnlyFromTheRightServer(t *testing.T) {
	j := newJoining(t)
	other, err := k3s.NewAuthority("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	j.write(joinCAPath, other.Certificate, 0)
	output, err := j.run()
	if err == nil || !strings.Contains(output, "cannot ask for the credentials (curl error 60)") {
		t.Errorf("%v\n%s", err, output)
	}
	j.hasNotJoined()
	for _, r := range j.requests {
		if strings.Contains(r, "/v1/") {
			t.Errorf("the claim was sent to a server that is not the right one: %s", r)
		}
	}
}

// The service that installed the machine has died; the file lists it first.
func TestAMachineTurnsToAnotherServiceWhenItsOwnIsGone(t *testing.T) {
	j := newJoining(t)
	conf, err := os.ReadFile(filepath.Join(j.root, joinConfigPath))
	if err != nil {
		t.Fatal(err)
	}
	gone := "://127.0.0.1:9" // the discard port of RFC 863: nobody listens
	changed := regexp.MustCompile(`(?m)^secure https://`).ReplaceAllString(string(conf), "secure https"+gone+"\nsecure https://")
	changed = regexp.MustCompile(`(?m)^(file .*) http://`).ReplaceAllString(changed, "$1 http"+gone+"/x http://")
	if strings.Count(changed, gone) != 4 {
		t.Fatalf("the test does not understand the config any more:\n%s", changed)
	}
	j.write(joinConfigPath, []byte(changed), 0)
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
	if reports := strings.Count(strings.Join(j.requests, "\n"), "/v1/report"); reports == 0 {
		t.Error("nothing was reported to the service that answers")
	}
}

func TestOtherServicesStandInTheJoinConfigAndInThePlan(t *testing.T) {
	m := Medium{Kind: KindBinary, Source: media.Source{Name: "k3s", SHA256: "ab"}}
	got, err := joinConfig(Service{BaseURL: "http://a", SecureURL: "https://a", Others: []Address{{"http://b", "https://b"}}}, "k3s.service", []Medium{m})
	if err != nil {
		t.Fatal(err)
	}
	want := "# What rhizome-join does: see there.\nunit k3s.service\nsecure https://a\nsecure https://b\n" +
		"file ab 0755 " + k3s.BinaryPath + " http://a/media/ab/k3s http://b/media/ab/k3s\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestAnAnswerThatIsNoArchiveIsAskedForAgain(t *testing.T) {
	j := newJoining(t)
	j.meddle = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/credentials" {
			return false
		}
		_, _ = io.WriteString(w, "<html>welcome</html>")
		return true
	}
	output, err := j.run()
	if err == nil || !strings.Contains(output, "the credentials are no archive") {
		t.Errorf("%v\n%s", err, output)
	}
	j.hasNotJoined()
	// What a power cut can leave of a file that was not yet on the disk.
	j.write("/var/lib/rhizome/credentials.tar", nil, 0o600)
	j.write("/var/lib/rhizome/.credentials.part", []byte("half"), 0o600)
	j.meddle = nil
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
}

func TestTheUnitRunsTheScriptUntilItHasJoined(t *testing.T) {
	for _, want := range []string{
		"ConditionPathExists=!" + joinedPath, "ExecStart=" + joinScriptPath, "Restart=on-failure", "StartLimitIntervalSec=0",
	} {
		if !strings.Contains(joinUnit, want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
	// The script and the program name the same files.
	for _, path := range []string{joinConfigPath, joinCAPath} {
		if !strings.Contains(string(joinScript), "$root"+path) {
			t.Errorf("the script does not name %s", path)
		}
	}
}

func TestAJoinConfigThatAShellWouldMisreadIsRefused(t *testing.T) {
	service := Service{BaseURL: "http://x", SecureURL: "https://x"}
	m := Medium{Kind: KindBinary, Source: media.Source{Name: "k3s", SHA256: strings.Repeat("a", 64)}}
	for name, c := range map[string]func() ([]byte, error){
		"a blank in a URL": func() ([]byte, error) {
			return joinConfig(Service{BaseURL: "http://x y", SecureURL: "https://x"}, "k3s.service", []Medium{m})
		},
		"a line break": func() ([]byte, error) { return joinConfig(service, "k3s.service\nfile x", []Medium{m}) },
		"a backslash":  func() ([]byte, error) { return joinConfig(service, `k3s\.service`, []Medium{m}) },
		"nothing":      func() ([]byte, error) { return joinConfig(service, "", []Medium{m}) },
		"an archive that k3s would ignore": func() ([]byte, error) {
			return joinConfig(service, "k3s.service", []Medium{{Kind: KindArchive, Source: media.Source{Name: "operator.zip", SHA256: "x"}}})
		},
	} {
		if config, err := c(); err == nil {
			t.Errorf("%s was taken:\n%s", name, config)
		}
	}
}

// The archive of credentials is what tar on the machine unpacks.
func TestCredentialsArchiveHoldsFilesOnly(t *testing.T) {
	archive, err := k3s.Tar([]k3s.File{{Path: "/b/c", Content: []byte("x"), Mode: 0o600}, {Path: "/a"}})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive)
	again, err := k3s.Tar([]k3s.File{{Path: "/a"}, {Path: "/b/c", Content: []byte("x"), Mode: 0o600}})
	if err != nil || sha256.Sum256(again) != sum {
		t.Errorf("the same files in another order: %v, other bytes than %s", err, hex.EncodeToString(sum[:4]))
	}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || strings.HasPrefix(h.Name, "/") || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%+v", h)
		}
	}
}
