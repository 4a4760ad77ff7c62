package boot

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"
	"github.com/prometheus/common/expfmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// ask sends what a network boot client asks a boot server, and says whether there
// was an answer and which file it names.
func ask(t *testing.T, mac string, wait time.Duration) (file string, answered bool) {
	t.Helper()
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	packet, err := dhcpv4.New(
		dhcpv4.WithHwAddr(hardware), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithClientIP(net.ParseIP(betaAddress)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016")),
		dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, "a machine's UUID"...)),
	)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(bootPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(packet.ToBytes()); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 2048)
	n, err := conn.Read(answer)
	if err != nil {
		return "", false
	}
	reply, err := dhcpv4.FromBytes(answer[:n])
	if err != nil {
		t.Fatal(err)
	}
	return reply.BootFileNameOption(), true
}

// fetch gets a file by TFTP.
func fetch(t *testing.T, name string) string {
	t.Helper()
	c, err := tftp.NewClient(podAddress + ":69")
	if err != nil {
		t.Fatal(err)
	}
	from, err := c.Receive(name, "octet")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := from.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// post asks the secure side, as the machine at an address of loopback.
func (r *running) post(w *world, from, path, claim string, body any) (*http.Response, []byte) {
	r.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodPost, fmt.Sprintf("https://%s:%d%s", podAddress, r.HTTPSPort, path), bytes.NewReader(encoded))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+claim)
	answer, err := w.authority.client(from).Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer, content
}

// families are the sums of the metrics of each family that is exposed.
func (r *running) families() map[string]float64 {
	r.t.Helper()
	answer, err := http.Get("http://" + r.MetricsAddress + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	var parser expfmt.TextParser
	all, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	sums := map[string]float64{}
	for name, family := range all {
		for _, m := range family.Metric {
			sums[name] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sums
}

// A machine's whole way, from its first packet to its credentials, with the rights
// that the chart gives; the pod that began is killed in the middle.
func TestAMachineIsBootedAndInstalled(t *testing.T) {
	w := newWorld(t)
	w.member("alpha")
	first := w.run("alpha")
	other := w.replica("other", w.admin)

	// DHCP is answered at once, although no file is here.
	eventually(t, "DHCP is answered", func() error {
		if _, ok := ask(t, betaMAC, time.Second); !ok {
			return errors.New("no answer")
		}
		return nil
	})
	image := w.internet.files["debian.raw"]
	path := "/media/" + digestOf(image) + "/debian.raw"
	first.await(http.StatusServiceUnavailable, "fetching")
	answer, err := http.Get(fmt.Sprintf("http://%s:%d%s", podAddress, first.HTTPPort, path))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("a file that is still being fetched: %s, Retry-After %q", answer.Status, answer.Header.Get("Retry-After"))
	}
	// Nor is a claim consumed before the machine could be installed.
	claim := w.open("beta", 1)
	eventually(t, "the claim is seen", func() error {
		if code, _ := first.plain("/boot/" + betaMAC + "/ipxe"); code != http.StatusOK {
			return fmt.Errorf("status %d", code)
		}
		if _, script := first.plain("/boot/" + betaMAC + "/ipxe"); !strings.Contains(script, "vmlinuz") {
			return errors.New(script)
		}
		return nil
	})
	if code, body := first.plain("/init/" + betaMAC); code != http.StatusServiceUnavailable || !strings.Contains(body, "debian.raw") {
		t.Errorf("the init config before the files: %d %s", code, body)
	}
	w.eventually("the pod registers and is not ready", func() error {
		pods := w.cluster().Status.PXE
		if len(pods) != 1 || pods[0].Node != "alpha" || pods[0].Address != podAddress || pods[0].Ready || !strings.Contains(pods[0].Message, "debian.raw") {
			return fmt.Errorf("%+v", pods)
		}
		return nil
	})
	close(w.internet.open)
	first.await(http.StatusOK, "serves all 3 files that 1 machines need")
	w.eventually("the pod says that it is ready", func() error {
		if pods := w.cluster().Status.PXE; len(pods) != 1 || !pods[0].Ready {
			return fmt.Errorf("%+v", pods)
		}
		return nil
	})

	if file, ok := ask(t, betaMAC, 10*time.Second); !ok || file != "snponly.efi" {
		t.Errorf("told to load %q, %v", file, ok)
	}
	const stranger = "52:54:00:99:99:99"
	if _, ok := ask(t, stranger, time.Second); ok {
		t.Error("an undeclared machine was answered")
	}
	if got := fetch(t, "loader/snponly.efi"); got != "ipxe" {
		t.Errorf("the loader is %q", got)
	}
	eventually(t, "the other replica has the files", func() error {
		if ready, message := other.files.verdict(); !ready {
			return errors.New(message)
		}
		return nil
	})
	code, body := first.plain("/init/" + betaMAC)
	if code != http.StatusOK {
		t.Fatalf("the init config: %d %s", code, body)
	}
	p, err := plan.Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if p.Claim != claim.ID || p.CA != string(w.authority.pem) || p.Image.Size != int64(len(image)) {
		t.Errorf("the plan is for claim %q, with %d bytes of image", p.Claim, p.Image.Size)
	}
	eventually(t, "the other replica sees the consumption", func() error {
		if c, ok := other.claims.Get(betaMAC); !ok || c.ConsumedAt.IsZero() {
			return errors.New("not consumed")
		}
		return nil
	})
	if answer, content := first.post(w, betaAddress, "/v1/report", claim.ID, pxe.Report{Stage: pxe.StageInstalling, Message: "writing", Done: 10, Total: 100}); answer.StatusCode != http.StatusNoContent {
		t.Errorf("a report: %s %s", answer.Status, content)
	}
	if code, got := first.plain(path); code != http.StatusOK || got != string(image) {
		t.Errorf("the image: %d, %d bytes", code, len(got))
	}
	w.eventually("the node shows the boot", func() error {
		return holdsStages(w.node("beta"), pxe.StageDHCP, pxe.StageConfig, pxe.StageInitConfig, pxe.StageInstalling, pxe.StageMedia)
	})
	if b := w.node("beta").Status.Boot; b.Firmware != "UEFI" || b.Architecture != "amd64" || b.UUID == "" || b.Done != 10 || b.Total != 100 {
		t.Errorf("boot %+v", b)
	}
	w.eventually("the stranger is listed", func() error {
		d := w.cluster().Status.Discovered
		if len(d) != 1 || d[0].MAC != stranger || d[0].Firmware != "UEFI" || d[0].Architecture != "amd64" || d[0].UUID == "" {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})
	moved := first.families()

	first.stop()
	w.eventually("the pod that ended is off the list", func() error {
		if pods := w.cluster().Status.PXE; len(pods) != 0 {
			return fmt.Errorf("%+v", pods)
		}
		return nil
	})
	second := w.run("alpha", func(o *Options) { o.PodName = "successor"; o.MediaDir = first.MediaDir })
	second.await(http.StatusOK, "")
	if answer, content := second.post(w, betaAddress, "/v1/report", claim.ID, pxe.Report{Stage: pxe.StageInstalled}); answer.StatusCode != http.StatusNoContent {
		t.Errorf("the report to the second pod: %s %s", answer.Status, content)
	}
	credentials := func(from string) (*http.Response, []byte) {
		return second.post(w, from, "/v1/credentials", claim.ID, nil)
	}
	if answer, content := credentials(betaAddress); answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("credentials before they are made: %s %s", answer.Status, content)
	}
	if c, _, err := w.operator.OfNode(t.Context(), "beta"); err != nil || c.State(time.Now()) != provision.StateInstalled {
		t.Errorf("the claim is %s, %v", c.State(time.Now()), err)
	}
	offered := []k3s.File{{Path: "/etc/rancher/k3s/config.yaml", Content: []byte("token: verysecret\n"), Mode: 0o600}}
	w.must(w.operator.Offer(t.Context(), "beta", claim.ID, offered))
	want, err := k3s.Tar(offered)
	w.must(err)
	if answer, content := credentials(betaAddress); answer.StatusCode != http.StatusOK || !bytes.Equal(content, want) {
		t.Errorf("the credentials: %s, %d bytes", answer.Status, len(content))
	}
	if answer, content := credentials(strangerAddress); answer.StatusCode != http.StatusForbidden || !strings.Contains(string(content), provision.RuleWrongAddress) {
		t.Errorf("a second machine with the same claim: %s %s", answer.Status, content)
	}
	w.eventually("the node shows the rest", func() error {
		return holdsStages(w.node("beta"), pxe.StageDHCP, pxe.StageInstalling, pxe.StageInstalled, pxe.StageCredentials, pxe.StageRefused)
	})
	if strings.Contains(first.log.String()+second.log.String(), "verysecret") || strings.Contains(first.log.String()+second.log.String(), claim.ID) {
		t.Error("a secret is in the log")
	}

	// Every family that the program declares is exposed, and moved by what happened.
	for name, value := range second.families() {
		moved[name] += value
	}
	for _, name := range []string{
		"dhcp_packets_total", "tftp_requests_total", "http_requests_total", "sent_bytes_total", "boot_stages_total", "claims_consumed_total",
		"claims_exchanged_total", "refusals_total", "media_fetched_bytes_total", "media_files_wanted", "status_writes_total", "pxe_ready",
	} {
		if moved["rhizome_"+name] == 0 {
			t.Errorf("rhizome_%s did not move", name)
		}
	}
	for _, name := range []string{"media_files_missing", "magic_packet_rounds_total"} { // their own tests move them
		if _, ok := moved["rhizome_"+name]; !ok {
			t.Errorf("rhizome_%s is not exposed", name)
		}
	}
}

func holdsStages(n *v1alpha1.Node, stages ...pxe.Stage) error {
	if n.Status.Boot == nil {
		return errors.New("nothing")
	}
	for _, stage := range stages {
		if !slices.ContainsFunc(n.Status.Boot.Stages, func(s v1alpha1.BootStage) bool { return s.Stage == string(stage) }) {
			return fmt.Errorf("no %s in %+v", stage, n.Status.Boot.Stages)
		}
	}
	return nil
}

func TestTheCertificateIsReplacedWithoutARestart(t *testing.T) {
	w := newWorld(t)
	close(w.internet.open)
	r := w.run("alpha")
	serial := func() error {
		conn, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", podAddress, r.HTTPSPort), w.authority.client(betaAddress).Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			return err
		}
		defer conn.Close()
		return fmt.Errorf("serial %s", conn.ConnectionState().PeerCertificates[0].SerialNumber)
	}
	is := func(want string) func() error {
		return func() error {
			if got := serial(); got.Error() != want {
				return got
			}
			return nil
		}
	}
	w.eventually("the first certificate is served", is("serial 1"))
	w.certify(2)
	w.eventually("the second certificate is served", is("serial 2"))

	s := w.servingSecret()
	s.Data["tls.crt"] = []byte("no certificate")
	w.must(w.Update(t.Context(), s))
	w.eventually("the third is refused", func() error {
		if !strings.Contains(r.log.String(), "cannot use the new serving certificate") {
			return errors.New("nothing is logged")
		}
		return nil
	})
	if got := serial(); got.Error() != "serial 2" {
		t.Errorf("after one that cannot be used: %v", got)
	}
	r.await(http.StatusOK, "")
}

// What happens when the API server goes away, and when it was never there.
func TestTheAPIServerMayBeAway(t *testing.T) {
	w := newWorld(t)
	close(w.internet.open)
	way := newWay(t, w.config)
	w.config = way.config
	claim := w.open("beta", 1)

	way.cut()
	r := w.run("alpha", func(o *Options) { o.PodName = "early" })
	r.await(http.StatusServiceUnavailable, "not read from the API server yet")
	if _, ok := ask(t, betaMAC, 500*time.Millisecond); ok {
		t.Error("a machine was answered before anything was read")
	}
	way.mend()
	r.await(http.StatusOK, "serves all 3 files that 2 machines need")
	way.cut()

	if _, ok := ask(t, alphaMAC, 10*time.Second); !ok {
		t.Error("without the API server a machine is not told to boot its own disk")
	}
	if _, script := r.plain("/boot/" + betaMAC + "/ipxe"); !strings.Contains(script, "vmlinuz") {
		t.Errorf("without the API server a boot does not go on: %s", script)
	}
	if code, body := r.plain("/init/" + betaMAC); code != http.StatusServiceUnavailable || !strings.Contains(body, "API server") {
		t.Errorf("an init config without the API server: %d %s", code, body)
	}
	if c, _, err := w.operator.OfNode(t.Context(), "beta"); err != nil || c.ID != claim.ID || !c.ConsumedAt.IsZero() {
		t.Errorf("the claim: %+v, %v", c, err)
	}
	way.mend()
	w.eventually("the init config is handed out", func() error {
		if code, body := r.plain("/init/" + betaMAC); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	w.eventually("what was seen meanwhile is written", func() error { return holdsStages(w.node("beta"), pxe.StageConfig, pxe.StageInitConfig) })
}

func TestTheListOfUndeclaredMachinesIsBounded(t *testing.T) {
	w := newWorld(t)
	close(w.internet.open)
	replicas := []*replica{w.replica("one", w.config), w.replica("two", w.config)}
	for i := range 200 {
		for _, r := range replicas {
			m := pxe.Machine{MAC: pxe.MAC(fmt.Sprintf("52:54:01:00:00:%02x", i)), Arch: pxe.AMD64, Firmware: pxe.FirmwareBIOS}
			r.backend.Observe(pxe.Observation{Time: time.Now(), Machine: m, Stage: pxe.StageDHCP})
		}
	}
	w.eventually("the list is full", func() error {
		if d := w.cluster().Status.Discovered; len(d) != maxDiscovered {
			return fmt.Errorf("%d machines are listed", len(d))
		}
		return nil
	})
	for _, r := range replicas {
		if len(r.discover.seen) > maxDiscovered {
			t.Errorf("%d machines are kept in memory", len(r.discover.seen))
		}
	}
}

func TestTwoPodsWriteIntoOneNode(t *testing.T) {
	w := newWorld(t)
	close(w.internet.open)
	one, two := w.replica("one", w.config), w.replica("two", w.config)
	at := time.Now()
	stages := stagesInOrder[:10]
	for i, stage := range stages {
		r := one
		if i%2 == 1 {
			r = two
		}
		r.backend.Observe(pxe.Observation{Time: at, Machine: pxe.Machine{MAC: betaMAC}, From: netip.MustParseAddr("192.168.1.11"), Stage: stage, Message: string(stage)})
	}
	w.eventually("all stages are there", func() error { return holdsStages(w.node("beta"), stages...) })
}
