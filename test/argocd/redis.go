//go:build linux

package argocd

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/test/program"
)

// redis is the cache of Argo CD's programs, in memory only.
type redis struct {
	address, password string
	process           *program.Process
}

func startRedis(ctx context.Context, t testing.TB, dir string) *redis {
	t.Helper()
	path, err := exec.LookPath("redis-check-rdb")
	if err != nil {
		t.Fatalf("%v: it is in Debian's package redis-tools (make setup)", err)
	}
	port := program.Port(t)
	r := &redis{address: fmt.Sprintf("127.0.0.1:%d", port), password: secret()}
	config := filepath.Join(dir, "redis.conf")
	content := fmt.Sprintf("bind 127.0.0.1\nport %d\nrequirepass %s\nsave \"\"\nappendonly no\ndir %s\n", port, r.password, dir)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, config)
	cmd.Args[0] = "redis-server" // the name makes the checker the server
	r.process = program.Start(t, "redis-server", filepath.Join(dir, "redis-server.log"), cmd)
	if err := r.process.Wait(ctx, r.ping); err != nil {
		t.Fatal(err)
	}
	return r
}

// ping is a probe that the server takes the password and commands.
func (r *redis) ping(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	in := bufio.NewReader(conn)
	for _, c := range []struct{ command, want string }{{"AUTH " + r.password, "+OK"}, {"PING", "+PONG"}} {
		if _, err := fmt.Fprint(conn, c.command+"\r\n"); err != nil {
			return err
		}
		if got, err := in.ReadString('\n'); err != nil || strings.TrimSpace(got) != c.want {
			return fmt.Errorf("redis answers %q, %w", got, err)
		}
	}
	return nil
}
