//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rhizome-dev/rhizome/test/lab"
)

// peers are the programs of others, unpacked by peers.sh.
type peers struct {
	root string
}

func unpackPeers(ctx context.Context) (peers, error) {
	cmd := exec.CommandContext(ctx, "test/bench/peers.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return peers{}, fmt.Errorf("cannot unpack the programs to measure against (run this in the repository's root): %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return peers{root: lines[len(lines)-1]}, nil
}

// find is the path of a program, unpacked or installed.
func (p peers) find(name string) (string, error) {
	for _, dir := range []string{"usr/sbin", "usr/bin"} {
		if path := filepath.Join(p.root, dir, name); executable(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no program %s, neither installed nor unpacked; remove %s, so that it is unpacked again: %w", name, p.root, err)
	}
	return path, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// environment with which the unpacked programs find their libraries.
func (p peers) environment() []string {
	// The pattern is well-formed, so there is no error.
	libraries, _ := filepath.Glob(filepath.Join(p.root, "usr/lib/*-linux-gnu"))
	return append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
}

// command runs an unpacked program on a host.
func (p peers) command(ctx context.Context, host *lab.Namespace, name string, args ...string) (*exec.Cmd, error) {
	path, err := p.find(name)
	if err != nil {
		return nil, err
	}
	cmd := host.Command(ctx, path, args...)
	cmd.Env = p.environment()
	return cmd, nil
}

// The servers of others are set up as fast as they go: no leases on disk, no
// address tried before it is offered, no log of requests.

// startDnsmasq starts dnsmasq for DHCP and TFTP, which it does in one thread.
func (b *pxeBench) startDnsmasq(ctx context.Context) (*daemon, error) {
	hosts := filepath.Join(b.dir, "dnsmasq.hosts")
	var list strings.Builder
	for i := range declaredMachines {
		fmt.Fprintf(&list, "%s,%s\n", macOf(i), addressOf(i))
	}
	if err := os.WriteFile(hosts, []byte(list.String()), 0o644); err != nil {
		return nil, err
	}
	return startPeer(ctx, b.peers, b.server, nil, "dnsmasq",
		"--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--pid-file=",
		"--user=root", "--group=root", "--port=0", "--interface=eth0", "--bind-interfaces",
		fmt.Sprintf("--dhcp-range=%s,static,%s,1h", b.lan.Addr(), net.IP(net.CIDRMask(b.lan.Bits(), 32))),
		"--dhcp-hostsfile="+hosts, "--dhcp-lease-max=2000", "--leasefile-ro", "--dhcp-authoritative",
		"--no-ping", "--quiet-dhcp",
		fmt.Sprintf("--dhcp-option=option:router,%s", gateway),
		fmt.Sprintf("--dhcp-option=option:dns-server,%s", gateway),
		fmt.Sprintf("--dhcp-boot=snponly.efi,%s,%s", serverAddress, serverAddress),
		"--enable-tftp", "--tftp-root="+filepath.Join(b.bootFiles, "loader"), "--tftp-max=256", "--quiet-tftp",
	)
}

// startKea starts Kea's DHCPv4 server.
func (b *pxeBench) startKea(ctx context.Context) (*daemon, error) {
	type object = map[string]any
	reservations := make([]object, declaredMachines)
	for i := range reservations {
		reservations[i] = object{"hw-address": macOf(i).String(), "ip-address": addressOf(i).String()}
	}
	config := object{"Dhcp4": object{
		"interfaces-config": object{"interfaces": []string{"eth0"}, "dhcp-socket-type": "udp"},
		"lease-database":    object{"type": "memfile", "persist": false},
		"valid-lifetime":    3600, "authoritative": true,
		// One thread is what Debian's version has by default, and the fastest beside a
		// client that takes a processor of two.
		"multi-threading":              object{"enable-multi-threading": false},
		"host-reservation-identifiers": []string{"hw-address"},
		"next-server":                  serverAddress.String(), "boot-file-name": "snponly.efi",
		"option-data": []object{
			{"name": "routers", "data": gateway.String()},
			{"name": "domain-name-servers", "data": gateway.String()},
		},
		"subnet4": []object{{
			"id": 1, "subnet": b.lan.String(), "reservations": reservations,
			"reservations-in-subnet": true, "reservations-out-of-pool": true, "reservations-global": false,
		}},
		"loggers": []object{{"name": "kea-dhcp4", "severity": "ERROR", "output_options": []object{{"output": "stderr"}}}},
	}}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	// A directory for each start: Kea takes the file of a predecessor that was killed
	// for a sign of life.
	dir, err := os.MkdirTemp(b.dir, "kea-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "kea.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return nil, err
	}
	return startPeer(ctx, b.peers, b.server, []string{"KEA_PIDFILE_DIR=" + dir, "KEA_LOCKFILE_DIR=" + dir},
		"kea-dhcp4", "-c", path)
}

// startTftpd starts tftpd-hpa, which forks for each request.
func (b *pxeBench) startTftpd(ctx context.Context) (*daemon, error) {
	return startPeer(ctx, b.peers, b.server, nil, "in.tftpd",
		"--foreground", "--listen", "--address", serverAddress.String()+":69",
		"--user", "root", "--permissive", "--secure", filepath.Join(b.bootFiles, "loader"))
}

// startNginx starts nginx with a worker for each processor.
func (b *pxeBench) startNginx(ctx context.Context, root string) (*daemon, error) {
	config := fmt.Sprintf(`
user root; daemon off; worker_processes auto; pid %[1]s/nginx.pid; error_log stderr error;
events { worker_connections 1024; }
http {
	access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
	default_type application/octet-stream; open_file_cache max=1000;
	client_body_temp_path %[1]s/nginx.body; proxy_temp_path %[1]s/nginx.proxy;
	fastcgi_temp_path %[1]s/nginx.fastcgi; uwsgi_temp_path %[1]s/nginx.uwsgi; scgi_temp_path %[1]s/nginx.scgi;
	server { listen %[2]s; root %[3]s; }
}
`, b.dir, httpAddress, root)
	path := filepath.Join(b.dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return startPeer(ctx, b.peers, b.server, nil, "nginx", "-p", b.dir, "-e", "stderr", "-c", path)
}
