//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/installer/disk"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// imageForm is one way to publish a disk image.
type imageForm struct {
	name        string
	compression string // plan's
	// pack makes it of the raw image "$1" at "$2".
	pack string
	// install is what others do with it: fetch "$1" and write the image to the disk "$2",
	// with room for a file at "$3".
	install string
	peer    string // what install is called
}

const curl = `curl --silent --fail "$1" | `

// onto writes to the disk and is done when the bytes are on the medium.
const onto = `dd of="$2" bs=1M iflag=fullblock conv=fsync,notrunc status=none`

// qcow2 cannot be read from a pipe: it is fetched first, then unpacked to the disk.
const convert = `curl --silent --fail --output "$3" "$1" && qemu-img convert -n -W -O raw "$3" "$2" && sync "$2"`

var imageForms = []imageForm{
	{"raw", plan.None, `cp --sparse=always "$1" "$2"`, curl + onto, "curl, dd"},
	{"gz", plan.Gzip, `gzip -c "$1" >"$2"`, curl + "gzip -dc | " + onto, "curl, gzip, dd"},
	{"xz", plan.XZ, `xz -T0 -c "$1" >"$2"`, curl + "xz -T0 -dc | " + onto, "curl, xz, dd"},
	{"zst", plan.Zstd, `zstd -q -T0 -10 "$1" -o "$2"`, curl + "zstd -dcq | " + onto, "curl, zstd, dd"},
	{"qcow2, deflate", plan.None, `qemu-img convert -c -O qcow2 "$1" "$2"`, convert, "curl, qemu-img"},
	{"qcow2, zstd", plan.None, `qemu-img convert -c -O qcow2 -o compression_type=zstd "$1" "$2"`, convert, "curl, qemu-img"},
}

// imageFiles makes the lab's image in every form, once: packing takes minutes.
func imageFiles(ctx context.Context) (dir string, err error) {
	image, err := lab.BuildImage(ctx, os.Stderr)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cache, "rhizome", "bench", image.SHA256[:16])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	forms := append([]imageForm{{name: "unpacked", pack: `zstd -dcq "$1" | dd of="$2" bs=1M iflag=fullblock conv=sparse status=none`}}, imageForms...)
	from := image.Path
	for _, form := range forms {
		to := filepath.Join(dir, form.name)
		if _, err := os.Stat(to); err != nil {
			progress("packing the image: %s", form.name)
			if err := shell(ctx, form.pack, from, to+".new"); err != nil {
				return "", err
			}
			if err := os.Rename(to+".new", to); err != nil {
				return "", err
			}
		}
		if form.name == "unpacked" {
			from = to
		}
	}
	return dir, nil
}

func shell(ctx context.Context, script string, args ...string) error {
	return say(exec.CommandContext(ctx, "bash", append([]string{"-o", "pipefail", "-c", script, "bash"}, args...)...))
}

func say(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// measureImage has a machine's disk written from the media that our service serves, by
// our installer's image path and by the programs of others. The floor is what the link
// (raw TCP) takes for the file or the disk for its content, whichever takes longer.
func (b *pxeBench) measureImage(ctx context.Context) error {
	dir, err := imageFiles(ctx)
	if err != nil {
		return err
	}
	raw := filepath.Join(dir, "unpacked")
	info, err := os.Stat(raw)
	if err != nil {
		return err
	}
	cache, err := media.Open(b.cache)
	if err != nil {
		return err
	}
	files := map[string]media.File{}
	for _, form := range imageForms {
		if files[form.name], err = cache.Add(ctx, filepath.Join(dir, form.name), "image"); err != nil {
			return err
		}
	}
	target := filepath.Join(b.dir, "disk")
	if err := shell(ctx, `dd if="$1" of="$2" bs=1M status=none && truncate --size=+64M "$2"`, raw, target); err != nil {
		return err
	}
	const floor = "the link or the disk"
	subjects := []subject{{ours, func(ctx context.Context) (*daemon, error) { return b.startOurs(ctx, "image") }}}
	ready := func(ctx context.Context) error {
		_, err := b.get(ctx, fmt.Sprintf("/media/%s/%s", b.media.SHA256, b.media.Name))
		return err
	}
	rate := func(from time.Time) float64 { return float64(info.Size()) / 1e6 / time.Since(from).Seconds() }
	found, err := b.measureEach(ctx, subjects, ready, func(ctx context.Context, _ string) (figures, error) {
		begin := time.Now()
		if err := shell(ctx, `dd if="$1" of="$2" bs=1M conv=fsync,notrunc status=none`, raw, target); err != nil {
			return nil, err
		}
		f := figures{"disk": rate(begin)}
		for _, form := range imageForms {
			file := files[form.name]
			url := fmt.Sprintf("http://%s/media/%s/%s", httpAddress, file.SHA256, file.Name)
			begin = time.Now()
			if err := b.install(ctx, plan.Image{URL: url, SHA256: file.SHA256, Size: file.Size, Compression: form.compression}, target); err != nil {
				return nil, fmt.Errorf("%s: %w", form.name, err)
			}
			f[form.name] = rate(begin)
			begin = time.Now()
			cmd := b.client.Command(ctx, "bash", "-o", "pipefail", "-c", form.install, "bash", url, target, filepath.Join(b.dir, "fetched"))
			if err := say(cmd); err != nil {
				return nil, err
			}
			f[form.name+", "+form.peer] = rate(begin)
		}
		return f, nil
	})
	if err != nil {
		return err
	}
	f := found[ours]
	for _, form := range imageForms {
		what := "image, " + form.name + ": MB/s of the disk"
		// The link carries a form that is small faster than its content is long.
		link := b.floor / 1e6 * float64(info.Size()) / float64(files[form.name].Size)
		b.table.rows = append(b.table.rows,
			row{what, f[form.name], floor, min(link, f["disk"])},
			row{what, f[form.name], form.peer, f[form.name+", "+form.peer]})
		b.table.note("image, "+form.name+": MB on the link", figure(float64(files[form.name].Size)/1e6))
	}
	b.table.note("image: MB on the disk", figure(float64(info.Size())/1e6))
	return nil
}

// install is the installer's image path, from the request to the last byte on the
// medium.
func (b *pxeBench) install(ctx context.Context, image plan.Image, path string) error {
	target, err := disk.OpenDevice(path)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	client := &http.Client{Transport: &http.Transport{
		DialContext: b.client.DialContext, DisableCompression: true, DisableKeepAlives: true, ReadBufferSize: 256 << 10,
	}}
	head, err := stream.Image(ctx, image, target, stream.Options{Client: client})
	if err != nil {
		return err
	}
	if _, err := target.WriteAt(head, 0); err != nil {
		return err
	}
	return target.Sync()
}
