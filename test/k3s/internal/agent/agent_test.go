package agent

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

func TestArchivesAreReadByTheirNames(t *testing.T) {
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{g, z} {
		if _, err := io.WriteString(w, "content"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{"a.tar": []byte("content"), "a.tar.gz": gz.Bytes(), "a.tgz": gz.Bytes(), "a.tar.zst": zst.Bytes()} {
		r, err := decompress(name, bytes.NewReader(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != "content" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := decompress("images.txt", nil); err == nil {
		t.Error("a text file was taken for an archive")
	}
}

func TestOnlyNameServersThatPodsCanReachCount(t *testing.T) {
	for text, want := range map[string]bool{
		"nameserver 10.0.0.1\n":                        true,
		"search a\nnameserver 10.0.0.1\n":              true,
		"nameserver 127.0.0.53\n":                      false,
		"nameserver 10.0.0.1\nnameserver 127.0.0.53\n": false,
		"nameserver fe80::1\n":                         false,
		"nameserver no-address\n":                      false,
		"search only\n":                                false,
		"":                                             false,
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := reachableNameServer(path)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestTheBalancerFollowsTheServers(t *testing.T) {
	b := &balancer{servers: []string{"vip:6443"}}
	b.learn(nil)
	if d := cmp.Diff([]string{"vip:6443"}, b.servers); d != "" {
		t.Errorf("after an empty answer: %s", d)
	}
	b.learn([]string{"a:6443", "b:6443"})
	if d := cmp.Diff([]string{"a:6443", "b:6443"}, b.servers); d != "" {
		t.Errorf("after learning: %s", d)
	}
	b.prefer("b:6443")
	b.learn([]string{"a:6443", "b:6443", "c:6443"})
	if d := cmp.Diff([]string{"b:6443", "a:6443", "c:6443"}, b.servers); d != "" {
		t.Errorf("the one in use stays first: %s", d)
	}
}

func TestAServersPort(t *testing.T) {
	for in, want := range map[string]string{"https://a:6443": "a:6443", "https://a": "a:443", "https://[fd00::1]:6443": "[fd00::1]:6443"} {
		if got, err := host(in); err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}
