package host

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/loader"
)

func script(t *testing.T, action pxe.Action, way pxe.LocalBoot) []byte {
	t.Helper()
	text, err := loader.IPXE("52:54:00:00:00:01", pxe.Decision{Action: action, Arch: "amd64", LocalBoot: way, Reason: "kernel of the matter",
		Kernel: pxe.Kernel{Path: "/installer/amd64/vmlinuz", Initrds: []string{"/installer/amd64/initrd.img"}}},
		netip.MustParseAddrPort("192.168.1.11:7480"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The scripts are those that the PXE service really writes.
func TestOnlyAnInstallationStartsAKernel(t *testing.T) {
	if !StartsKernel(script(t, pxe.Install, pxe.LocalBootAuto)) {
		t.Error("an installation is not seen as one")
	}
	for _, way := range []pxe.LocalBoot{pxe.LocalBootAuto, "Exit", "SANBoot"} {
		if text := script(t, pxe.BootLocal, way); StartsKernel(text) {
			t.Errorf("a boot of the own disk (%s) is taken for an installation:\n%s", way, text)
		}
	}
	for _, text := range []string{"", "kernel x", "not found", "#!ipxe\n", "#!ipxe\n# kernel x\n"} {
		if StartsKernel([]byte(text)) {
			t.Errorf("%q is taken for an installation", text)
		}
	}
}

// A machine that waits asks all services, again and again, and believes only a
// script that starts a kernel.
func TestWaitingForAnInstallation(t *testing.T) {
	install, local := script(t, pxe.Install, pxe.LocalBootAuto), script(t, pxe.BootLocal, pxe.LocalBootAuto)
	var asked atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			http.Error(w, string(install), http.StatusServiceUnavailable)
		case 2:
			_, _ = w.Write(local)
		default:
			_, _ = w.Write(install)
		}
	}))
	defer service.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	w := waiter{client: service.Client(), every: time.Millisecond, logger: slog.New(slog.DiscardHandler)}
	if err := w.wait(t.Context(), []string{gone.URL, service.URL + "/boot/x/ipxe"}); err != nil {
		t.Error(err)
	}
	if got := asked.Load(); got != 3 {
		t.Errorf("the service was asked %d times, want 3", got)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := w.wait(ended, []string{gone.URL}); err == nil {
		t.Error("it restarts the machine when it is told to end")
	}
}
