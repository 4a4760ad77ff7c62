package provision

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

func withMedium(format v1alpha1.Format, medium v1alpha1.Medium) inventory.Inventory {
	inv := homelab()
	medium.Architecture = v1alpha1.AMD64
	inv.OperatingSystems[0].Spec.Format, inv.OperatingSystems[0].Spec.Media = format, []v1alpha1.Medium{medium}
	return inv
}

func netboot() v1alpha1.Medium {
	return v1alpha1.Medium{Packages: "http://mirror.example.org/debian", Files: []v1alpha1.TreeFile{
		{Path: "linux", File: v1alpha1.File{URL: "https://example.org/netboot/linux", SHA256: digest('1')}},
		{Path: "initrd.gz", File: v1alpha1.File{URL: "https://example.org/netboot/initrd.gz", SHA256: digest('2')}},
	}}
}

func isoMedium() v1alpha1.Medium {
	return v1alpha1.Medium{File: v1alpha1.File{URL: "https://example.org/dist%20ro.iso?x=1", SHA256: digest('a')}}
}

func TestEachFormatBootsItsInstaller(t *testing.T) {
	a := string(digest('a'))
	preseed := withMedium(v1alpha1.FormatPreseed, netboot())
	files, err := Media(preseed, &preseed.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	listing := files[0]
	if listing.Kind != KindListing || files[1].Kind != KindFile || files[2].Kind != KindFile || files[3].Kind != KindBinary {
		t.Fatalf("media %+v", files)
	}
	moved := isoMedium()
	moved.Kernel, moved.Initrd = "boot/vmlinuz", "boot/initrd"
	for name, c := range map[string]struct {
		inv  inventory.Inventory
		want pxe.Kernel
	}{
		"Kickstart": {withMedium(v1alpha1.FormatKickstart, isoMedium()), pxe.Kernel{
			Path: "/tree/" + a + "/images/pxeboot/vmlinuz", Initrds: []string{"/tree/" + a + "/images/pxeboot/initrd.img"},
			Args: []string{"inst.ks=${base}/init/${mac}", "inst.stage2=${base}/tree/" + a, "ip=dhcp", "BOOTIF=01-52-54-00-00-00-01", "panic=60", "console=ttyS0"},
		}},
		"Autoinstall": {withMedium(v1alpha1.FormatAutoinstall, moved), pxe.Kernel{
			Path: "/tree/" + a + "/boot/vmlinuz", Initrds: []string{"/tree/" + a + "/boot/initrd"},
			Args: []string{"autoinstall", "ds=nocloud-net;s=${base}/init/${mac}/", "url=${base}/media/" + a + "/dist-ro.iso", "cloud-config-url=/dev/null",
				"ip=dhcp", "BOOTIF=01-52-54-00-00-00-01", "panic=60", "console=ttyS0"},
		}},
		"Preseed": {preseed, pxe.Kernel{
			Path: "/tree/" + listing.SHA256 + "/linux", Initrds: []string{"/tree/" + listing.SHA256 + "/initrd.gz"},
			Args: []string{"url=${base}/init/${mac}/preseed.cfg", "auto=true", "priority=critical", "interface=auto", "BOOTIF=01-52-54-00-00-00-01",
				"hostname=alpha", "domain=unassigned-domain", "netcfg/disable_autoconfig=true", "netcfg/get_ipaddress=192.168.1.10",
				"netcfg/get_netmask=255.255.255.0", "netcfg/get_gateway=192.168.1.1", "netcfg/get_nameservers=192.168.1.1",
				"netcfg/confirm_static=true", "panic=60", "console=ttyS0"},
		}},
	} {
		claim := openClaim()
		d := Decide(c.inv, pxe.Machine{MAC: alphaMAC, Arch: pxe.AMD64}, &claim, claim.Opened)
		want := c.want
		for i := range want.Args {
			want.Args[i] = strings.ReplaceAll(want.Args[i], "52-54-00-00-00-01", strings.ReplaceAll(string(alphaMAC), ":", "-"))
		}
		if diff := cmp.Diff(want, d.Kernel); d.Action != pxe.Install || diff != "" {
			t.Errorf("%s: %v %s (- want, + got):\n%s", name, d.Action, d.Reason, diff)
		}
	}
	unlocked := isoMedium()
	unlocked.SHA256 = ""
	claim := openClaim()
	if d := Decide(withMedium(v1alpha1.FormatKickstart, unlocked), pxe.Machine{MAC: alphaMAC}, &claim, claim.Opened); d.Action != pxe.BootLocal ||
		!strings.Contains(d.Reason, "bootstrapper media lock") {
		t.Errorf("a medium without its digest: %v %s", d.Action, d.Reason)
	}
}

func TestEachFormatIsGivenItsDocuments(t *testing.T) {
	for name, c := range map[string]struct {
		format v1alpha1.Format
		medium v1alpha1.Medium
		parts  string
		holds  []string
	}{
		"Kickstart":   {v1alpha1.FormatKickstart, isoMedium(), "ks.cfg", []string{"url --url=http://192.168.1.2:7480/tree/" + string(digest('a')) + "/\n"}},
		"Preseed":     {v1alpha1.FormatPreseed, netboot(), "install.sh preseed.cfg", []string{"d-i mirror/http/hostname string mirror.example.org\n"}},
		"Autoinstall": {v1alpha1.FormatAutoinstall, isoMedium(), "meta-data user-data", []string{"autoinstall:\n"}},
	} {
		s := newScene(t, openClaim())
		s.inventory = withMedium(c.format, c.medium)
		s.c.Service.CA = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		doc, err := s.InitConfig(t.Context(), alphaMAC, stranger)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		all := string(doc.Body)
		for _, part := range strings.Fields(c.parts) {
			all += string(doc.Parts[part].Body)
			if len(doc.Parts[part].Body) == 0 || doc.Parts[part].ContentType == "" {
				t.Errorf("%s: there is no %s", name, part)
			}
		}
		if len(doc.Parts) != len(strings.Fields(c.parts)) || (len(doc.Body) > 0) != (c.format == v1alpha1.FormatKickstart) {
			t.Errorf("%s: %d parts and %d bytes at the init config's own path", name, len(doc.Parts), len(doc.Body))
		}
		for _, want := range append(c.holds, "serial S1", "/v1/report", openClaim().ID, "rhizome-join", "hostname: alpha\n alpha\n"[:8]) {
			if !strings.Contains(all, want) {
				t.Errorf("%s: there is no %q in it", name, want)
			}
		}
		// The machine may ask for the other documents, and another may not.
		if _, err := s.InitConfig(t.Context(), alphaMAC, stranger); err != nil {
			t.Errorf("%s: the same machine again: %v", name, err)
		}
		if _, err := s.InitConfig(t.Context(), alphaMAC, stranger.Next()); ruleOf(err) == "" {
			t.Errorf("%s: another machine: %v", name, err)
		}
	}
}

func TestAListingIsFetchedOutOfItsURL(t *testing.T) {
	inv := withMedium(v1alpha1.FormatPreseed, netboot())
	files, err := Media(inv, &inv.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	cache, err := media.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f, err := cache.Fetch(t.Context(), files[0].Source, nil)
	if err != nil || f.SHA256 != files[0].SHA256 || f.Size == 0 {
		t.Errorf("%+v, %v", f, err)
	}
	u, err := url.Parse(files[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	other := files[0].Source
	other.URL = "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString([]byte("something else"))
	other.SHA256 = string(digest('f'))
	if _, err := cache.Fetch(t.Context(), other, nil); err == nil || !strings.Contains(err.Error(), "wrong checksum") {
		t.Errorf("other content: %v (%s)", err, u.Scheme)
	}
}
